//! Starts a gateway on a thread of its own and ends it.
//!
//! The thread is started after all forks of the run. When it ends, for whatever reason, its sockets are closed, so the agent's
//! network is closed, too; the run must be ended then.

use std::io;
use std::net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rcc_spec::{NetworkPolicy, RuleSet};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::audit::{AuditLog, AuditSummary, Event, Outcome, Record};
use crate::config::{GatewayConfig, Limits};
use crate::keeper::{ChangeError, Changed, Keeper};
use crate::live::too_many;
use crate::publish::Published;
use crate::refusal::RefusalCount;
use crate::shared::{Shared, Sockets, take_apart};
use crate::{control, dns, inband, live, publish, session, udp};

/// Address space of the gateway's stack. Futures live on the heap, so little of it is ever touched.
const STACK_BYTES: usize = 512 << 10;
/// Threads for changes of rules, which are made one after the other.
const BLOCKING_THREADS: usize = 2;
/// Descriptors of the process that are not for relayed connections.
const RESERVED_DESCRIPTORS: u64 = 128;
/// Descriptors of a relayed connection: both sockets; pipes and look-ups are few and come and go.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// UDP flows, with one descriptor each, get at most this part of the descriptors: one of so many.
const FLOWS_SHARE: u64 = 8;
/// Bytes of datagrams that may wait for the gateway; the kernel cuts it to `net.core.rmem_max` (`socket(7)`).
const DATAGRAMS_BUFFER: usize = 4 << 20;
/// Time that a connection waits for the room of another.
const ROOM_TIME: Duration = Duration::from_secs(1);
/// Pause after accept(2) failed for lack of memory or descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Why a gateway did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The system refused a thread, a descriptor or a socket option.
    #[error("cannot start the gateway: {what}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The gateway's thread ended before it was told to.
    #[error("the gateway has stopped: {what}")]
    Stopped {
        /// Which part of it.
        what: &'static str,
    },
}

/// What happened in a run, told at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// What was refused, without repetitions, sorted by host.
    pub refusals: Vec<RefusalCount>,
    /// Refusals beyond the list's limit.
    pub refusals_unlisted: u64,
    /// TCP connections that the agent made, refused ones included.
    pub connections: u64,
    /// Connections that reached the world.
    pub connections_relayed: u64,
    /// UDP flows that reached the world.
    pub flows: u64,
    /// DNS messages that the agent sent.
    pub queries: u64,
    /// Payload bytes from the agent to the world.
    pub bytes_sent: u64,
    /// Payload bytes from the world to the agent.
    pub bytes_received: u64,
    /// What became of the audit log.
    pub audit: AuditSummary,
}

/// A running gateway. Dropping it ends it without a summary.
#[derive(Debug)]
pub struct Gateway {
    stop: Option<oneshot::Sender<()>>,
    control: GatewayControl,
    thread: Option<JoinHandle<Result<Summary, GatewayError>>>,
    ended: OwnedFd,
}

impl Gateway {
    /// Starts a gateway. When this returns, connections and queries are being served.
    ///
    /// # Errors
    /// [`GatewayError::Start`].
    pub fn start(config: GatewayConfig) -> Result<Self, GatewayError> {
        let start = |what| move |source| GatewayError::Start { what, source };
        let (parts, sockets, live, (run_id, sink)) = take_apart(config);
        let (ended, ends) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(io::Error::from)
            .map_err(start("making a pipe"))?;
        let audit = AuditLog::new(&run_id, sink, parts.audit_bytes());
        let shared = Arc::new(Shared::new(parts, audit));
        let (stop, stopped) = oneshot::channel();
        let (order, orders) = mpsc::unbounded_channel();
        let control = GatewayControl {
            orders: order,
            shared: Arc::downgrade(&shared),
            keeper: Arc::new(Keeper::new(live.policy)),
        };
        let service = live.listener.map(|listener| (listener, control.clone()));
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("rcc-gateway".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Closed however this thread ends: the other end becomes readable.
                let _ends = ends;
                run(&shared, sockets, stopped, orders, service, &ready)
            })
            .map_err(start("starting its thread"))?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self {
                stop: Some(stop),
                control,
                thread: Some(thread),
                ended,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(GatewayError::Stopped { what: "its thread" }),
        }
    }

    /// A descriptor that becomes readable (end of file) when the gateway's thread has ended. Nothing is ever written to it.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// A handle for other threads, which changes the gateway while it runs.
    #[must_use]
    pub fn control(&self) -> GatewayControl {
        self.control.clone()
    }

    /// Puts new rules in force: see [`GatewayControl::set_rules`].
    ///
    /// # Errors
    /// [`GatewayError::Stopped`].
    pub fn set_rules(&self, rules: Arc<RuleSet>) -> Result<usize, GatewayError> {
        self.control.set_rules(rules)
    }

    /// Tells the gateway to end, which [`Gateway::shutdown`] waits for.
    pub fn stop(&mut self) {
        // Fails only when the thread is gone, which joining tells.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Ends the gateway: connections are closed, the audit log is written out.
    ///
    /// # Errors
    /// [`GatewayError::Stopped`] if it had ended before.
    pub fn shutdown(mut self) -> Result<Summary, GatewayError> {
        self.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(GatewayError::Stopped { what: "its thread" }),
        }
    }
}

/// Changes a running gateway from any thread but the gateway's own.
#[derive(Debug, Clone)]
pub struct GatewayControl {
    orders: mpsc::UnboundedSender<Order>,
    shared: Weak<Shared>,
    keeper: Arc<Keeper>,
}

/// What a [`GatewayControl`] asks of the gateway's thread.
#[derive(Debug)]
enum Order {
    /// Put these rules in force and tell how many connections were cut.
    SetRules(Arc<RuleSet>, std::sync::mpsc::SyncSender<usize>),
}

impl GatewayControl {
    /// Puts another policy of files and flags in force; what was added for the run stays on top. Waits as
    /// [`GatewayControl::set_rules`].
    ///
    /// # Errors
    /// [`GatewayError::Stopped`].
    pub fn set_policy(&self, policy: Arc<NetworkPolicy>) -> Result<usize, GatewayError> {
        let cut = self
            .keeper
            .replace(policy, &|rules| self.set_rules(rules))?;
        self.note("policy_changed", None, cut);
        Ok(cut)
    }

    /// Writes a line into the audit log that a change of the policy files was not put in force.
    pub fn note_refused_policy(&self, reason: &'static str, text: &str) {
        self.note(reason, Some(text), 0);
    }

    /// Adds rules for the run.
    pub(crate) fn add_rules(
        &self,
        allow: &[String],
        deny: &[String],
    ) -> Result<Changed, ChangeError> {
        let changed = self
            .keeper
            .add(allow, deny, &|rules| self.set_rules(rules))?;
        self.note("rules_added", Some(&changed.added.join(" ")), changed.cut);
        Ok(changed)
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    fn note(&self, reason: &'static str, text: Option<&str>, cut: usize) {
        if let Some(shared) = self.shared.upgrade() {
            shared.audit.note(reason, text, cut);
        }
    }

    /// Puts new rules in force. When this returns, connections that they forbid are cut, and none begins any more; those
    /// that they allow have lost no byte. Waits for the gateway's thread, so it must not be called on it. The result is the
    /// number of connections cut.
    ///
    /// # Errors
    /// [`GatewayError::Stopped`].
    pub fn set_rules(&self, rules: Arc<RuleSet>) -> Result<usize, GatewayError> {
        let stopped = GatewayError::Stopped { what: "its thread" };
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        match self.orders.send(Order::SetRules(rules, done)) {
            Ok(()) => is_done.recv().map_err(|_| stopped),
            Err(_) => Err(stopped),
        }
    }
}

/// Carries out orders, one after the other, until the task is dropped.
async fn obey(shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::SetRules(rules, done) => {
                let cut = live::set_rules(&shared, rules).await;
                // Fails only when nobody waits any more.
                let _ = done.send(cut);
            }
        }
    }
    // The gateway itself has a sender, so this is its end.
    std::future::pending().await
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported on standard error by the thread itself.
            let _ = thread.join();
        }
    }
}

type Ready = std::sync::mpsc::SyncSender<Result<(), GatewayError>>;

/// The gateway's thread.
fn run(
    shared: &Arc<Shared>,
    sockets: Sockets,
    stopped: oneshot::Receiver<()>,
    orders: mpsc::UnboundedReceiver<Order>,
    service: Option<(OwnedFd, GatewayControl)>,
    ready: &Ready,
) -> Result<Summary, GatewayError> {
    let start = |what| move |source| GatewayError::Start { what, source };
    let fitting = fitting_limits(&shared.limits);
    let connections = Arc::new(Semaphore::new(fitting.connections));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_io()
        .enable_time()
        .build()
        .map_err(start("starting the event loop"));
    let outcome = match runtime {
        Err(error) => {
            // The receiver waits for exactly this message.
            let _ = ready.send(Err(error));
            return Err(GatewayError::Stopped { what: "its start" });
        }
        Ok(runtime) => runtime.block_on(async {
            let served = async {
                let registered = register(sockets).map_err(start("registering its sockets"))?;
                let listener = registered.tcp;
                let of_accept = Arc::clone(&connections);
                Ok::<_, GatewayError>((
                    tokio::spawn(accept(Arc::clone(shared), listener, of_accept)),
                    tokio::spawn(dns::udp::serve(Arc::clone(shared), registered.dns)),
                    tokio::spawn(datagrams(Arc::clone(shared), registered.udp, fitting.flows)),
                    tokio::spawn(publish::serve(
                        Arc::clone(shared),
                        registered.published,
                        connections,
                    )),
                ))
            };
            let (tcp, dns, udp, published) = match served.await {
                Ok(tasks) => tasks,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Err(GatewayError::Stopped { what: "its start" });
                }
            };
            let service =
                match service.map(|(socket, control)| Ok((control::listen(socket)?, control))) {
                    None => None,
                    Some(Ok(service)) => Some(service),
                    Some(Err(error)) => {
                        let _ = ready.send(Err(start("registering its control socket")(error)));
                        return Err(GatewayError::Stopped { what: "its start" });
                    }
                };
            if let Some((listener, control)) = service {
                tokio::spawn(control::serve(Arc::clone(shared), control, listener));
            }
            let obedient = tokio::spawn(obey(Arc::clone(shared), orders));
            let _ = ready.send(Ok(()));
            tokio::select! {
                _ = stopped => Ok(()),
                // Neither returns; a panic in one must not leave half a gateway.
                _ = tcp => Err(GatewayError::Stopped { what: "its listener" }),
                _ = dns => Err(GatewayError::Stopped { what: "its DNS service" }),
                _ = published => Err(GatewayError::Stopped { what: "its published ports" }),
                _ = obedient => Err(GatewayError::Stopped { what: "its control" }),
                _ = udp => Err(GatewayError::Stopped { what: "its UDP relay" }),
            }
        }),
    };
    // The runtime is gone, and with it every task: connections have written their last lines.
    let audit = shared.audit.close();
    outcome.map(|()| summary(shared, audit))
}

/// The sockets as the event loop knows them.
struct Registered {
    tcp: TcpListener,
    dns: UdpSocket,
    udp: Option<(UdpSocket, OwnedFd, Option<OwnedFd>)>,
    published: Option<Published>,
}

fn register(sockets: Sockets) -> io::Result<Registered> {
    let listener = StdTcpListener::from(sockets.tcp);
    listener.set_nonblocking(true)?;
    let udp_socket = |descriptor: OwnedFd| {
        let socket = StdUdpSocket::from(descriptor);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    let udp = match sockets.udp {
        Some(sockets) => {
            // The kernel grants what its own limit allows; bursts beyond that are lost.
            let _ = set_socket_recv_buffer_size(&sockets.datagrams, DATAGRAMS_BUFFER);
            let datagrams = udp_socket(sockets.datagrams)?;
            Some((datagrams, sockets.raw_v4, sockets.raw_v6))
        }
        None => None,
    };
    // A burst of questions that is lost costs each of their programs seconds.
    let _ = set_socket_recv_buffer_size(&sockets.dns, DATAGRAMS_BUFFER);
    Ok(Registered {
        tcp: TcpListener::from_std(listener)?,
        dns: udp_socket(sockets.dns)?,
        udp,
        published: sockets.published,
    })
}

/// Serves datagrams, if there are sockets for them, until the task is dropped.
async fn datagrams(
    shared: Arc<Shared>,
    sockets: Option<(UdpSocket, OwnedFd, Option<OwnedFd>)>,
    limit: usize,
) {
    match sockets {
        Some((socket, raw_v4, raw_v6)) => {
            udp::serve(shared, socket, raw_v4, raw_v6, limit).await;
        }
        None => std::future::pending().await,
    }
}

/// Accepts connections until the task is dropped.
async fn accept(shared: Arc<Shared>, listener: TcpListener, connections: Arc<Semaphore>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client was faster to leave than we to accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let permit = Arc::clone(&connections).try_acquire_owned().ok();
        if permit.is_none() && !shared.live.cut_silent() {
            turn_away(&shared, stream);
            continue;
        }
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        tokio::spawn(async move {
            let permit = match permit {
                Some(permit) => permit,
                // The connection that has to make room leaves as soon as its task runs.
                None => match timeout(ROOM_TIME, connections.acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return turn_away(&shared, stream),
                },
            };
            session::serve(&shared, stream).await;
            drop(permit);
        });
    }
}

/// Resets a connection for which there is no room.
fn turn_away(shared: &Shared, stream: TcpStream) {
    let mut record = Record::new(Event::Refuse, rcc_spec::Protocol::Tcp, Outcome::Deny);
    record.reason = Some(too_many().code);
    shared.audit.log(&record);
    inband::reset(stream);
}

/// How many may be served at a time.
struct Fitting {
    connections: usize,
    flows: usize,
}

/// Raises the limit of descriptors as far as allowed, and lowers the numbers of connections and flows to what fits.
fn fitting_limits(limits: &Limits) -> Fitting {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let descriptors = limit.current.map_or(u64::MAX, |descriptors| {
        descriptors.saturating_sub(RESERVED_DESCRIPTORS)
    });
    let flows = (descriptors / FLOWS_SHARE).max(16).min(limits.flows.into());
    let connections = descriptors.saturating_sub(flows) / DESCRIPTORS_PER_CONNECTION;
    let connections = connections.max(16).min(limits.connections.into());
    Fitting {
        connections: usize::try_from(connections).unwrap_or(usize::MAX >> 4),
        flows: usize::try_from(flows).unwrap_or(usize::MAX >> 4),
    }
}

fn summary(shared: &Shared, audit: AuditSummary) -> Summary {
    let (refusals, refusals_unlisted) = shared.refusals().sorted();
    let counters = &shared.counters;
    Summary {
        refusals,
        refusals_unlisted,
        connections: counters.accepted.load(Ordering::Relaxed),
        connections_relayed: counters.relayed.load(Ordering::Relaxed),
        flows: counters.flows.load(Ordering::Relaxed),
        queries: counters.queries.load(Ordering::Relaxed),
        bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
        bytes_received: counters.bytes_received.load(Ordering::Relaxed),
        audit,
    }
}
