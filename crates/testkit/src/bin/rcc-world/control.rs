//! Answers the test's questions on a Unix socket: one line in, one line out.
//!
//! Must not be reachable for anybody but the test: the socket's mode is 0600.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rcc_testkit::world::wire::{Answer, Question};

use crate::{Failure, log};

/// Answers on a thread of its own, for as long as the process lives.
pub(crate) fn serve(
    path: &Path,
    answer: impl Fn(Question) -> Answer + Send + 'static,
) -> Result<(), Failure> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            if let Err(error) = one(stream, &answer) {
                log(&format!("control: {error}"));
            }
        }
    });
    Ok(())
}

fn one(stream: UnixStream, answer: &impl Fn(Question) -> Answer) -> Result<(), Failure> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut reply = serde_json::to_string(&answer(serde_json::from_str(&line)?))?;
    reply.push('\n');
    reader.get_mut().write_all(reply.as_bytes())?;
    Ok(())
}
