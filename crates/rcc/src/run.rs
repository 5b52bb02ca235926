//! The one place where the native engine and the gateway meet: prepares the sandbox, starts the gateway on its sockets,
//! lets the agent go, waits, takes everything down in reverse order.
//!
//! Should: fork before any thread exists, which is why the gateway is started after the sandbox is prepared.
//! Mustn't: decide anything that the plan does not say.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rcc_gateway::{
    AuditSink, Gateway, GatewayConfig, GatewayError, HostAddresses, HostTransport, Limits,
    LiveConfig, Published, RefusalCount, Summary, SyntheticRanges, UdpSockets, Upstream,
    UpstreamProxy,
};
use rcc_native::{Desk, DiskRoom, Group, Guard, LimitWatch, Listeners, NativeError, Outcome};
use rcc_plan::Plan;
use rcc_spec::{FilesMode, NetworkMode, NetworkPolicy, Protocol, RuleSet};
use rustix::io::Errno;

use crate::audit_file;
use crate::control::{self, Socket};
use crate::desk;
use crate::detach::Begun;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::growth::Growth;
use crate::limits;
use crate::output;
use crate::publish;
use crate::record::{EndReason, Record};
use crate::session::Session;
use crate::unprotected;
use crate::watch::Watch;

/// Most refusals that are listed at the end of a run.
const LISTED_REFUSALS: usize = 10;

/// Applies the session's plan. The agent has ended when this returns, and nothing of the run is left but its record.
/// The result is the agent's exit code, 128+n after a signal.
///
/// # Errors
/// The sandbox could not be built, the command could not be executed, or the gateway was lost (the agent was killed).
pub(crate) fn execute(
    begun: Begun,
    session: &mut Session,
    mut record: Option<&mut Record>,
) -> Result<u8, CliError> {
    // Before anything is built: a port that is in use is the commonest reason not to start.
    let ports = publish::open(&session.plan.publish)?;
    let (room, short) = DiskRoom::open(&session.plan)?;
    for shortage in &short {
        output::warn(&rcc_plan::escape(limits::short_at_start(shortage)));
    }
    let growth = Growth::open(&session.plan, &session.facts.agent_home)?;
    let mut prepared = rcc_native::prepare(begun.early, &session.plan)?;
    // Outlives everything that runs in it.
    let group = prepared.take_group();
    let sockets = prepared.take_sockets();
    let published = sockets.map(|sockets| publish::join(ports, sockets));
    let (mut gateway, _socket) = match prepared.take_listeners() {
        Some(listeners) => {
            let (gateway, socket) =
                open_network(session, listeners, published, record.as_deref_mut())?;
            (Some(gateway), socket)
        }
        None => (None, None),
    };
    let plan = &session.plan;
    let before = rcc_native::Before::of(plan);
    let mut running = prepared.start(plan.streams)?;
    let started = limits::Start::now();
    let mut guard = Guard::new(&running, plan, before)?;
    let tell = |event| limits::tell(&event);
    let limit_watch = LimitWatch::start(&mut running, &plan.limits, group.as_ref(), room, tell)?;
    let growth = match &limit_watch {
        Some(watch) => growth.watch(watch.ender())?,
        None => None,
    };
    let (_place, mut desk) = open_desk(record.as_deref(), plan, group.as_ref());
    if let Some(detached) = begun.detached {
        let (Some(desk), Some(record)) = (desk.as_mut(), record.as_deref()) else {
            return Err(CliError::new(
                Kind::Host,
                "a run without a desk cannot be detached",
            ));
        };
        detached.settle(desk, record)?;
    }
    let mut watch = None;
    let lasting = || {
        let gateway = gateway.as_ref();
        watch = gateway.and_then(|gateway| Watch::start(session, gateway.control()));
        guard.as_mut().map_or(Ok(()), Guard::begin)
    };
    let relayed = running.relay(gateway.as_ref().map(Gateway::ended), desk, lasting);
    drop(growth);
    let limited = limit_watch.map(LimitWatch::finish).unwrap_or_default();
    let outcome = relayed?;
    if let Some(group) = &group {
        limits::sum_up(group, &limited);
    }
    if session.sources.flags.stats {
        limits::tell_usage(group.as_ref(), &limited, &started);
    }
    if let Some(guard) = guard {
        unprotected::tell(guard.finish())?;
    }
    if let Some(gateway) = &mut gateway {
        gateway.stop();
        // While it ends.
        if session.policy.files.mode.value == FilesMode::Direct {
            session.before.look_again(&session.project);
        }
    }
    if let Some(summary) = gateway.map(Gateway::shutdown).transpose()? {
        tell_refusals(&summary);
        tell_lost(&summary);
    }
    let reason = EndReason::of(&outcome, limited.ended.as_ref());
    if let (Some(record), Some(reason)) = (record, reason) {
        record.note_reason(reason);
    }
    match outcome {
        Outcome::Exited(_) | Outcome::HungUp(_) if limited.ended.is_some() => {
            Ok(Exit::TimedOut.into())
        }
        Outcome::Exited(code) | Outcome::HungUp(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Outcome::NotExecuted { errno, code } => Err(not_executed(plan, errno, code)),
        // The thread that was lost says so itself when it is joined above; this is the case that it does not.
        Outcome::GatewayLost => Err(GatewayError::Stopped { what: "its thread" }.into()),
    }
}

/// Opens the desk, when the agent is under way already: nobody waits for it before.
fn open_desk<'run>(
    record: Option<&Record>,
    plan: &'run Plan,
    group: Option<&Group>,
) -> (Option<desk::Place>, Option<Desk<'run>>) {
    match record.map(desk::open).transpose() {
        Ok(opened) => opened
            .map(|(place, listener)| (place, Desk::new(listener, plan, group.map(Group::record))))
            .unzip(),
        // The run is as tight without it.
        Err(error) => {
            output::warn(&rcc_plan::escape(error.to_string()));
            (None, None)
        }
    }
}

/// Opens the file that the audit log goes to: the caller's choice, else the record's.
fn audit_log(session: &Session, record: Option<&Record>) -> Result<File, CliError> {
    if let Some(path) = &session.audit {
        return audit_file::open(path, &session.policy, &session.facts).map_err(|source| {
            CliError::new(Kind::Host, source).hint(format!(
                "the audit log {} must be a writable file, and no link where the agent can write",
                rcc_plan::escape(path)
            ))
        });
    }
    let record = record.ok_or_else(|| CliError::new(Kind::Internal, "a run without a record"))?;
    record
        .audit()
        .map_err(|error| CliError::new(Kind::Host, error))
}

/// Starts the gateway and opens the socket over which it is changed, whose place lasts as long as the result.
fn open_network(
    session: &mut Session,
    listeners: Listeners,
    published: Option<Published>,
    record: Option<&mut Record>,
) -> Result<(Gateway, Option<Socket>), CliError> {
    let audit = audit_log(session, record.as_deref())?;
    let mut socket = None;
    let mut listener = None;
    if let Some(record) = record {
        match control::open(record, session.runtime.as_deref()) {
            Ok((made, fd)) => {
                record.note_control(Some(made.directory()))?;
                (socket, listener) = (Some(made), Some(fd));
            }
            // The run is as tight without it; only its rules stay as they are.
            Err(error) => {
                record.note_control(None)?;
                output::warn(&rcc_plan::escape(error.to_string()));
            }
        }
    }
    let mode = session.policy.network.mode;
    // Rules may be many, and from here on the gateway has them.
    let network = std::mem::replace(&mut session.policy.network, NetworkPolicy::new(mode));
    if network.ask_seconds.is_some() && mode == NetworkMode::Allowlist {
        output::note(
            "hosts that no rule names wait for your answer; in another terminal: rcc net ask --watch",
        );
    }
    let network = Arc::new(network);
    let proxy = session.upstream_proxy.take();
    let gateway = start_gateway(
        session, listeners, published, proxy, audit, network, listener,
    )?;
    Ok((gateway, socket))
}

fn start_gateway(
    session: &Session,
    listeners: Listeners,
    published: Option<Published>,
    upstream_proxy: Option<UpstreamProxy>,
    audit: File,
    policy: Arc<NetworkPolicy>,
    listener: Option<OwnedFd>,
) -> Result<Gateway, CliError> {
    let at_start = session.facts.addresses.clone();
    let gateway = Gateway::start(GatewayConfig {
        upstream_proxy,
        run_id: session.plan.run_id.clone(),
        rules: Arc::new(RuleSet::compile(&policy)),
        // When they cannot be read again, the ones that the run started with stay forbidden.
        host_addresses: HostAddresses::read_by(move || {
            rcc_host::host_addresses().unwrap_or_else(|_| at_start.clone())
        }),
        tcp_listener: listeners.tcp,
        dns_socket: listeners.dns,
        udp: Some(UdpSockets {
            datagrams: listeners.udp,
            raw_v4: listeners.raw_v4,
            raw_v6: listeners.raw_v6,
        }),
        synthetic: SyntheticRanges::default(),
        upstream: Upstream::system(),
        transport: Arc::new(HostTransport),
        published,
        audit: AuditSink::File(audit),
        limits: Limits::default(),
        live: LiveConfig { policy, listener },
    })?;
    Ok(gateway)
}

/// Says what was refused, once for each destination; a run without refusals ends silently.
fn tell_refusals(summary: &Summary) {
    for refusal in summary.refusals.iter().take(LISTED_REFUSALS) {
        output::note(&rcc_plan::escape(refusal_line(refusal)));
    }
    let unlisted =
        u64::try_from(summary.refusals.len().saturating_sub(LISTED_REFUSALS)).unwrap_or(u64::MAX);
    let unlisted = unlisted.saturating_add(summary.refusals_unlisted);
    if unlisted > 0 {
        output::note(&format!(
            "refused {unlisted} other destinations; the audit log has them all"
        ));
    }
}

/// Says that the audit log is not whole.
fn tell_lost(summary: &Summary) {
    let audit = &summary.audit;
    let lines = match audit.lines_lost {
        0 => return,
        1 => "1 line".to_owned(),
        lost => format!("{lost} lines"),
    };
    let reason = audit.last_error.as_deref().unwrap_or("unknown");
    output::warn(&rcc_plan::escape(format!(
        "the audit log lacks {lines} of this run: {reason}"
    )));
}

fn refusal_line(refusal: &RefusalCount) -> String {
    let port = match (refusal.port, refusal.protocol) {
        (None, _) => String::new(),
        (Some(port), Protocol::Tcp) => format!(":{port}"),
        (Some(port), Protocol::Udp) => format!(":{port}/udp"),
    };
    let rule = refusal
        .rule
        .as_ref()
        .map_or_else(String::new, |rule| format!(", by {rule}"));
    let times = if refusal.count == 1 {
        String::new()
    } else {
        format!(", {} times", refusal.count)
    };
    let fix = refusal.fix.as_ref().map_or_else(String::new, |fix| {
        format!("; to allow it, start rcc with: {fix}")
    });
    format!(
        "refused {}{port} ({}{rule}){times}{fix}",
        refusal.host, refusal.sentence
    )
}

/// Says why a command could not be executed inside.
pub(crate) fn not_executed(plan: &Plan, errno: Errno, code: i32) -> CliError {
    let program = plan
        .argv
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    if code == 127 {
        CliError::new(Kind::NotFound, format!("command not found in the sandbox: {program}")).hint(
            "only programs of the system, of the project and of toolchains on your PATH exist inside; grant others with --ro PATH",
        )
    } else {
        let reason = rcc_sys::describe_errno(errno);
        CliError::new(
            Kind::CannotExecute,
            format!("cannot execute {program} in the sandbox: {reason}"),
        )
    }
}

impl From<NativeError> for CliError {
    fn from(error: NativeError) -> Self {
        let hint = error.hint();
        let error = Self::new(Kind::Host, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl From<GatewayError> for CliError {
    fn from(error: GatewayError) -> Self {
        Self::new(Kind::Host, error)
    }
}
