//! `rcc net log`: the audit log of a run, for people or as it is.
//!
//! Must not send anything to a terminal that the log holds unescaped: `--audit` may lie where an agent can write.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use serde_json::Value;

use crate::cli::NetLogArgs;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::record::AUDIT;
use crate::runs::{Found, recorded};

/// Time between two looks with `-f`.
const EVERY: Duration = Duration::from_millis(200);
/// Longest line that is shown, in bytes.
const LINE_LIMIT: usize = 64 << 10;

/// A log that cannot be shown.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error("cannot read the audit log {}", rcc_plan::escape(path))]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the audit log {} is not a regular file", rcc_plan::escape(path))]
    NotRegular { path: PathBuf },
}

pub(super) fn run(args: &NetLogArgs) -> Result<u8, CliError> {
    let found = recorded(&args.run)?;
    let path = match &found.description.audit {
        Some(path) => path.as_path().to_owned(),
        None => found.record.join(AUDIT),
    };
    let mut file = open(&path)?;
    let mut rest = Vec::new();
    loop {
        // Asked before reading: what the run wrote last is read after it has ended.
        let goes_on = args.follow && found.still_lives();
        let mut chunk = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut chunk).map_err(|source| {
                CliError::new(
                    Kind::Host,
                    LogError::Read {
                        path: path.clone(),
                        source,
                    },
                )
            })?;
            if count == 0 {
                break;
            }
            rest.extend_from_slice(chunk.get(..count).unwrap_or_default());
            let text = lines(&mut rest, &found, args.json);
            output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
        }
        if !goes_on {
            return Ok(Exit::Success.into());
        }
        std::thread::sleep(EVERY);
    }
}

fn open(path: &Path) -> Result<File, CliError> {
    let fail = |source: std::io::Error| {
        let path = path.to_owned();
        CliError::new(Kind::Host, LogError::Read { path, source })
    };
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
    let status = rustix::fs::fstat(&file).map_err(|errno| fail(errno.into()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        let path = path.to_owned();
        return Err(CliError::new(Kind::Host, LogError::NotRegular { path }));
    }
    Ok(file.into())
}

/// Takes the whole lines out of what was read, and renders those of this run.
fn lines(rest: &mut Vec<u8>, run: &Found, as_json: bool) -> String {
    let mut text = String::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = rest.drain(..=end).collect();
        let Ok(value) = serde_json::from_slice::<Value>(&line) else {
            continue;
        };
        // One file of `--audit` may hold several runs.
        if value["run"] != run.description.id.as_str() {
            continue;
        }
        let shown = if as_json {
            ascii(&value.to_string())
        } else {
            readable(&value)
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{shown}");
    }
    if rest.len() > LINE_LIMIT {
        rest.clear();
    }
    text
}

/// JSON with everything beyond printable ASCII as `\u` escapes, so that no terminal takes it for a command.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            text.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// One line for people: time, event, verdict, destination, what else is known.
fn readable(value: &Value) -> String {
    let field = |key: &str| match &value[key] {
        Value::String(text) => Some(rcc_plan::escape(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut words = Vec::new();
    // The date is the same on nearly every line; the time of day tells them apart.
    let time = field("time").unwrap_or_default();
    words.push(
        time.split('T')
            .nth(1)
            .unwrap_or(&time)
            .trim_end_matches('Z')
            .to_owned(),
    );
    words.extend(field("event"));
    words.extend(field("verdict"));
    let host = field("name").or_else(|| field("address"));
    let port = field("port").map_or_else(String::new, |port| format!(":{port}"));
    let udp = match value["protocol"] == "udp" && value["event"] != "dns" {
        true => "/udp",
        false => "",
    };
    words.extend(host.map(|host| format!("{host}{port}{udp}")));
    words.extend(
        ["question", "rcode", "reason"]
            .into_iter()
            .filter_map(field),
    );
    words.extend(field("rule").map(|rule| format!("[{rule}]")));
    words.extend(field("text"));
    let counted = [
        ("bytes_sent", "sent"),
        ("bytes_received", "received"),
        ("duration_ms", "ms"),
        ("repeated", "more times"),
        ("lines", "lines"),
        ("cut", "cut"),
    ];
    let counted = counted
        .into_iter()
        .filter_map(|(key, word)| Some(format!("{} {word}", field(key)?)));
    words.extend(counted);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_is_not_printable() {
        let value = serde_json::json!({"time": "2026-01-02T03:04:05.678Z", "run": "r", "event": "refuse\u{1b}[2J",
            "name": "a\u{202e}b\u{9b}c", "port": 443, "protocol": "tcp", "verdict": "deny"});
        for text in [readable(&value), ascii(&value.to_string())] {
            assert!(
                text.chars()
                    .all(|character| matches!(character, ' '..='~') || character == '\u{fffd}'),
                "{text}"
            );
        }
        assert!(readable(&value).starts_with("03:04:05.678 "));
        let back: Value = serde_json::from_str(&ascii(&value.to_string())).unwrap();
        assert_eq!(back, value);
    }
}
