//! The control socket: how the user on the host looks at a running gateway and changes its rules.
//!
//! # Who may
//! The agent has the user's own uid, so a uid says little. The listener lies in a directory of mode 0700 that no sandbox is ever
//! given, and the gateway asks the kernel about each client on top of that: its uid must be ours or root's, and its process must
//! live in our own user namespace. The agent's processes never do: theirs is a child of it, and no call leads back.
//!
//! # Bounds
//! Clients, the length of their lines and the time for one are bounded. A client that does not read is dropped.
//!
//! Must not change anything itself: `keeper.rs` does, on a thread of its own, because compiling a long list takes time that
//! connections should not wait.

mod protocol;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

pub use protocol::{
    Answer, CONTROL_VERSION, ProtocolError, Question, REQUEST_LIMIT, Reached, Request, Response,
    RuleLine, StillRefused, parse_request, parse_response, request_line,
};
use rcc_spec::{HostName, Protocol};
use rcc_sys::peer::is_callers_own;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::gateway::GatewayControl;
use crate::judge::Unopened;
use crate::live::Live;
use crate::refusal::{Destination, Host};
use crate::shared::Shared;
use crate::way_out;
use protocol::{PAGE, response_line};

/// Clients at a time. One more is told so and closed.
const CLIENTS: usize = 16;
/// Longest time between two requests of a client, and for one to be complete.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for a client to take an answer.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Longest time that a client waits for a change of the questions.
const QUESTIONS_WAIT: Duration = Duration::from_secs(10);
/// Pause after accept(2) failed for lack of memory or descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes over a listening socket. Must be called on the runtime.
pub(crate) fn listen(listener: OwnedFd) -> std::io::Result<UnixListener> {
    let listener = StdUnixListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves clients until the task is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, control: GatewayControl, listener: UnixListener) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !is_callers_own(&stream) {
            // Not a word: whoever this is, it has no business here.
            continue;
        }
        let Ok(permit) = Arc::clone(&clients).try_acquire_owned() else {
            let reason = "too many clients talk to this run".to_owned();
            // The buffer of a new socket is empty; if this does not fit, nobody is lost.
            let _ = stream.try_write(&response_line(&Response::Failed { reason }));
            continue;
        };
        let (shared, control) = (Arc::clone(&shared), control.clone());
        tokio::spawn(async move {
            attend(&shared, &control, stream).await;
            drop(permit);
        });
    }
}

/// Answers one client after another line until it leaves.
async fn attend(shared: &Arc<Shared>, control: &GatewayControl, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX) + 1;
        let mut limited = (&mut reader).take(limit);
        let read = timeout(IDLE_LIMIT, limited.read_until(b'\n', &mut line)).await;
        let is_whole = line.pop_if(|last| *last == b'\n').is_some();
        let parsed = match read {
            Ok(Ok(1..)) if is_whole => parse_request(&line),
            Ok(Ok(1..)) if line.len() > REQUEST_LIMIT => Err(ProtocolError::TooLong),
            // The end, in the middle of a line or not, an error, or silence.
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        };
        let is_sound = parsed.is_ok();
        let response = match parsed {
            Ok(request) => answer(shared, control, request).await,
            Err(error) => failed(error),
        };
        let written = timeout(WRITE_LIMIT, writer.write_all(&response_line(&response))).await;
        if !matches!(written, Ok(Ok(()))) || !is_sound {
            return;
        }
    }
}

fn failed(reason: impl ToString) -> Response {
    Response::Failed {
        reason: reason.to_string(),
    }
}

async fn answer(shared: &Arc<Shared>, control: &GatewayControl, request: Request) -> Response {
    match request {
        Request::Rules { from } => {
            let control = control.clone();
            off_thread(move || {
                let (mode, ask_seconds, total, rules) = control.keeper().page(from, PAGE);
                Response::Rules {
                    mode,
                    ask_seconds,
                    total,
                    rules,
                }
            })
            .await
        }
        Request::Change { allow, deny } => {
            let control = control.clone();
            off_thread(move || match control.add_rules(&allow, &deny) {
                Ok(changed) => Response::Changed {
                    cut: changed.cut,
                    still_refused: changed.still_refused,
                },
                Err(error) => failed(error),
            })
            .await
        }
        Request::Test {
            host,
            port,
            protocol,
        } => test(shared, &host, port, protocol).await,
        Request::Questions { seen } => {
            if let Some(seen) = seen {
                shared.questions.wait_for_change(seen, QUESTIONS_WAIT).await;
            }
            let (serial, questions) = shared.questions.list();
            Response::Questions { serial, questions }
        }
        Request::Answer { question, answer } => Response::Answered {
            was_waiting: shared.questions.answer(question, answer),
        },
    }
}

/// Does on another thread what waits for this one or takes long.
async fn off_thread(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| failed("the change could not be made"))
}

/// Judges a destination and, if it is allowed, connects to it and closes the connection again.
async fn test(shared: &Arc<Shared>, host: &str, port: u16, protocol: Protocol) -> Response {
    let host = match host.parse::<IpAddr>() {
        Ok(address) => Host::Address(address),
        Err(_) => match HostName::parse(host) {
            Ok(name) => Host::Name(name),
            Err(error) => return failed(error),
        },
    };
    let destination = Destination {
        host,
        port,
        protocol,
    };
    let rules = shared.rules();
    let verdict = match &destination.host {
        Host::Name(name) => rules.decide_name(name, port, protocol),
        Host::Address(address) => rules.decide_address(*address, port, protocol),
    };
    let reached = match verdict.is_allow() {
        true => Some(reach(shared, &destination).await),
        false => None,
    };
    Response::Tested { verdict, reached }
}

async fn reach(shared: &Arc<Shared>, destination: &Destination) -> Reached {
    if destination.protocol == Protocol::Udp {
        // Datagrams have no handshake: there is nothing to try.
        return Reached {
            address: destination.address(),
            code: None,
            reason: None,
        };
    }
    // As for a connection of the agent, new rules end it.
    let live = Live::begin(shared, destination);
    let opened = tokio::select! {
        biased;
        refusal = live.cut() => Err(refusal.into()),
        opened = async {
            live.admit().await?;
            way_out::open(shared, destination, &live).await
        } => opened,
    };
    match opened {
        Ok(opened) => Reached {
            address: opened.reached.first().map(|(address, _)| *address),
            code: None,
            reason: None,
        },
        Err(Unopened { refusal, resolved }) => Reached {
            address: resolved,
            code: Some(refusal.code.to_owned()),
            reason: Some(refusal.sentence),
        },
    }
}
