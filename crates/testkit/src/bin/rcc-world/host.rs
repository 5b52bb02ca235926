//! Listeners of the host itself: its public and LAN addresses, and its loopback.
//!
//! Must run in the host namespace: these are what a sandbox must not reach although everything else on the host can.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use rcc_testkit::world::addresses::{ECHO_PORT, HTTP_ALT_PORT, HTTP_PORT, HTTPS_PORT};
use rcc_testkit::world::wire::{Answer, Question};

use crate::counters::Counters;
use crate::http::Server;
use crate::sockets::{Listeners, serve_tcp};
use crate::tls::Authority;
use crate::{Failure, control, inet, services, streams, unix};

pub(crate) fn run(directory: &Path) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let listeners = Arc::new(Listeners::default());
    let authority = Arc::new(Authority::make(&directory.join("public/host-ca.pem"))?);
    let server = Arc::new(Server {
        counters: Arc::clone(&counters),
        authority,
        site: services::plain_site(),
    });
    inet::serve_web(
        &server,
        &counters,
        &listeners,
        &[HTTP_PORT, HTTP_ALT_PORT],
        &[HTTPS_PORT],
    )?;
    serve_tcp(ECHO_PORT, &counters, &listeners, streams::echo)?;
    let setup = services::read_setup(directory)?;
    if setup.host_sockets {
        unix::serve(&setup, &counters)?;
    }
    control::serve(
        &directory.join("host.sock"),
        move |question| match question {
            Question::Seen => match listeners.flush(&counters) {
                Ok(()) => Answer::Seen(counters.seen()),
                Err(error) => Answer::Failed(format!("cannot flush the listeners: {error}")),
            },
            Question::Requests => Answer::Requests(counters.requests()),
            Question::Forget => match listeners.flush(&counters) {
                Ok(()) => {
                    counters.forget();
                    Answer::Done
                }
                Err(error) => Answer::Failed(format!("cannot flush the listeners: {error}")),
            },
            other => Answer::Failed(format!("the host's listeners cannot answer {other:?}")),
        },
    )?;
    let mut stdout = std::io::stdout();
    stdout.write_all(b"ready\n")?;
    stdout.flush()?;
    inet::park()
}
