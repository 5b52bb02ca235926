//! One conversation with the gateway of a run.
//!
//! Must not print what comes back without escaping it: names of hosts in it were chosen by the agent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rcc_gateway::{ProtocolError, Request, Response, parse_response, request_line};

use crate::control;
use crate::error::{CliError, Kind};
use crate::runs::Found;

/// Longest time for an answer: compiling a million rules, or waiting for a connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Longest answer, in bytes.
const ANSWER_BYTES: u64 = 16 << 20;

/// A conversation that failed.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error(
        "the run {} cannot be changed while it lasts: it has no control socket",
        rcc_plan::escape(id)
    )]
    NoSocket { id: String },
    #[error(
        "nobody answers for the run {}: it has ended or was killed",
        rcc_plan::escape(id)
    )]
    Gone { id: String },
    #[error(
        "nobody answers for the run {}, which goes on: its control socket was removed",
        rcc_plan::escape(id)
    )]
    Removed { id: String },
    #[error("cannot talk to the run {}", rcc_plan::escape(id))]
    Talk {
        id: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot understand what the run {} answers", rcc_plan::escape(id))]
    Answer {
        id: String,
        #[source]
        source: ProtocolError,
    },
    #[error("the run {} refuses this: {reason}", rcc_plan::escape(id))]
    Refused { id: String, reason: String },
}

/// A connection to the gateway of a run.
#[derive(Debug)]
pub(super) struct Client {
    id: String,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(super) fn connect(run: &Found) -> Result<Self, CliError> {
        let id = run.description.id.clone();
        let Some(directory) = &run.description.control else {
            let hint = "a run without a network, or one that could not make a socket, has none";
            return Err(CliError::new(Kind::User, ClientError::NoSocket { id }).hint(hint));
        };
        let talk = |id: &str| {
            let id = id.to_owned();
            move |source| CliError::new(Kind::Host, ClientError::Talk { id, source })
        };
        let stream = control::connect(directory.as_path(), ANSWER_LIMIT).map_err(talk(&id))?;
        let Some(stream) = stream else {
            let error = match run.still_lives() {
                true => ClientError::Removed { id },
                false => ClientError::Gone { id },
            };
            return Err(CliError::new(Kind::User, error));
        };
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .map_err(talk(&id))?;
        Ok(Self {
            id,
            stream: BufReader::new(stream),
        })
    }

    /// Asks one thing.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Response, CliError> {
        let id = self.id.clone();
        let mut line = Vec::new();
        let said = self.stream.get_mut().write_all(&request_line(request));
        let heard = said.and_then(|()| {
            (&mut self.stream)
                .take(ANSWER_BYTES)
                .read_until(b'\n', &mut line)
        });
        match heard {
            Ok(_) if line.pop_if(|last| *last == b'\n').is_some() => {}
            Ok(_) => return Err(CliError::new(Kind::User, ClientError::Gone { id })),
            Err(source) => return Err(CliError::new(Kind::Host, ClientError::Talk { id, source })),
        }
        match parse_response(&line) {
            Ok(Response::Failed { reason }) => Err(CliError::new(
                Kind::User,
                ClientError::Refused { id, reason },
            )),
            Ok(response) => Ok(response),
            Err(source) => Err(CliError::new(
                Kind::Host,
                ClientError::Answer { id, source },
            )),
        }
    }

    /// The error for an answer to something else than what was asked.
    pub(super) fn confused(&self) -> CliError {
        let reason = "it answers another question".to_owned();
        let id = self.id.clone();
        CliError::new(Kind::Internal, ClientError::Refused { id, reason })
    }
}
