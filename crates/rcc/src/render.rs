//! Plans and policies as text for people. Everything that comes from a file or the host is escaped.

use std::fmt::Write as _;

use rcc_plan::{Access, Grant, GroupPlace, MountStep, Network, Plan, SeccompProfile};
use rcc_spec::{
    HOST_NAME, Layers, LimitKey, NetworkMode, Policy, PolicyLayer, Rule, Target, merge,
};

use crate::output::Style;
use crate::session::Session;

/// Most lines of one list; the rest is counted.
const LIST_LIMIT: usize = 40;

/// What a project's policy lets an agent do, as a list of sentences; those that are new since `before` are marked.
///
/// Whoever wrote the policy may want something to be overlooked: only rules for names are ever counted instead of shown,
/// and everything else stands before them.
pub(crate) fn sentences(
    layer: &PolicyLayer,
    before: Option<&PolicyLayer>,
    wider: Option<&[String]>,
) -> String {
    let (general, names) = said(layer);
    let old = before.map(said);
    let is_new = |sentence: &String| {
        old.as_ref().is_some_and(|(general, names)| {
            !general.contains(sentence) && !names.contains(sentence)
        })
    };
    let mark = |sentence: &String| {
        let mark = if is_new(sentence) { "+" } else { "-" };
        format!("  {mark} {}\n", rcc_plan::escape(sentence))
    };
    // A lifted restriction is no sentence of the policy itself.
    let lifted = wider
        .into_iter()
        .flatten()
        .filter(|sentence| !general.contains(sentence) && !names.contains(sentence));
    let mut out: String = lifted
        .map(|sentence| format!("  + {}\n", rcc_plan::escape(sentence)))
        .collect();
    out.extend(general.iter().map(mark));
    let (new, kept): (Vec<_>, Vec<_>) = names.iter().partition(|sentence| is_new(sentence));
    for sentence in new.iter().chain(&kept).take(LIST_LIMIT) {
        out.push_str(&mark(sentence));
    }
    if names.len() > LIST_LIMIT {
        let _ = writeln!(
            out,
            "  - and {} more rules for names, see the file",
            names.len() - LIST_LIMIT
        );
    }
    if let Some((general_before, names_before)) = &old {
        let gone = general_before
            .iter()
            .chain(names_before)
            .filter(|old| !general.contains(old) && !names.contains(old));
        for sentence in gone.take(LIST_LIMIT) {
            let _ = writeln!(out, "  no longer: {}", rcc_plan::escape(sentence));
        }
        out.push_str("  (+ is new since you approved it)\n");
    }
    out
}

/// The sentences of a layer: everything but rules for names, and those rules.
fn said(layer: &PolicyLayer) -> (Vec<String>, Vec<String>) {
    let policy = merge(Layers {
        project: layer.clone(),
        ..Layers::default()
    });
    let is_name = |rule: &&Rule| !matches!(rule.target, Target::Network(_));
    let rules = || policy.network.allow.iter().chain(&policy.network.deny);
    let names: Vec<String> = rules().filter(is_name).map(Rule::sentence).collect();
    let mut general: Vec<String> = rules()
        .filter(|rule| !is_name(rule))
        .map(Rule::sentence)
        .collect();
    let mut rest = policy.clone();
    // The mode's own sentence depends on whether there are rules.
    rest.network.allow.truncate(1);
    rest.network.deny.clear();
    let first = rest.network.allow.first().map(Rule::sentence);
    general.extend(
        rest.summary()
            .into_iter()
            .filter(|sentence| Some(sentence) != first.as_ref()),
    );
    (general, names)
}

/// The whole plan in sections.
pub(crate) fn plan(session: &Session, style: Style) -> String {
    let Session {
        plan,
        policy,
        facts,
        ..
    } = session;
    let mut out = String::new();
    let mut section = |name: &str, body: String| {
        let _ = write!(out, "{}\n{body}", style.title(name));
    };
    section("process", process(plan));
    section("files", files(plan));
    section("network", network(plan, policy));
    section("environment", environment(plan));
    section("limits", limits(plan, policy));
    section("hardening", hardening(plan, policy));
    if let Some(project) = protected(facts) {
        section("protected in the project", project);
    }
    out
}

fn process(plan: &Plan) -> String {
    let words: Vec<String> = plan
        .argv
        .iter()
        .map(|word| quoted(&word.to_string()))
        .collect();
    let terminal = if plan.streams.wants_terminal() {
        "a pseudo-terminal of its own"
    } else {
        "the caller's pipes"
    };
    format!(
        "  command    {}\n  directory  {}\n  user       {}:{} and no other\n  terminal   {terminal}\n",
        words.join(" "),
        plan.cwd,
        plan.uid,
        plan.gid
    )
}

fn files(plan: &Plan) -> String {
    let mut out = String::new();
    for step in &plan.mounts {
        let (what, path) = match step {
            MountStep::Bind {
                at, from, access, ..
            } => {
                let what = match access {
                    Access::ReadOnly => "read-only ",
                    Access::ReadWrite => "read-write",
                };
                let from = if from == at {
                    String::new()
                } else {
                    format!("  <- {from}")
                };
                (what, format!("{at}{from}"))
            }
            MountStep::Pin {
                at,
                access: Access::ReadOnly,
            } => ("protected ", at.to_string()),
            // Pins of parents only keep the protected entry in its place.
            MountStep::Pin {
                access: Access::ReadWrite,
                ..
            } => continue,
            MountStep::Tmpfs { at, size_bytes, .. } => (
                "private   ",
                format!(
                    "{at}  (in memory, at most {})",
                    rcc_spec::ByteSize::from_bytes(*size_bytes)
                ),
            ),
            MountStep::Overlay { at, layer, .. } => {
                ("copy      ", format!("{at}  (changes go to {layer})"))
            }
            MountStep::Hide { at } => ("hidden    ", at.to_string()),
            MountStep::Freeze { at } => ("read-only ", at.to_string()),
            MountStep::Etc { synthetic, absent } => (
                "read-only ",
                format!(
                    "/etc  ({} files made by rcc, {} hidden)",
                    synthetic.len(),
                    absent.len()
                ),
            ),
            MountStep::Proc => ("private   ", "/proc".to_owned()),
            MountStep::Devpts => ("private   ", "/dev/pts".to_owned()),
            MountStep::Directory { .. } | MountStep::File { .. } | MountStep::Symlink { .. } => {
                continue;
            }
        };
        let _ = writeln!(out, "  {what} {path}");
    }
    out.push_str("  absent     everything else\n");
    out
}

fn network(plan: &Plan, policy: &Policy) -> String {
    let mut out = String::new();
    let mode = policy.network.mode;
    let _ = writeln!(
        out,
        "  mode       {mode} ({})",
        rcc_plan::escape(policy.mode_origin.to_string())
    );
    let _ = match plan.network {
        Network::None => writeln!(out, "  way out    none, only loopback inside"),
        Network::Gateway { ipv6 } => {
            writeln!(
                out,
                "  way out    through the gateway, {}",
                if ipv6 { "IPv4 and IPv6" } else { "IPv4" }
            )
        }
    };
    if mode != NetworkMode::None {
        list(
            &mut out,
            "  allow      ",
            policy
                .network
                .allow
                .iter()
                .map(|rule| format!("{rule} ({})", rule.origin)),
        );
        list(
            &mut out,
            "  deny       ",
            policy
                .network
                .deny
                .iter()
                .map(|rule| format!("{rule} ({})", rule.origin)),
        );
        let proxy = policy.upstream_proxy.address.iter();
        list(
            &mut out,
            "  proxy      ",
            proxy.map(|proxy| format!("{} ({})", proxy.value, proxy.origin)),
        );
        list(
            &mut out,
            "  no proxy   ",
            policy
                .upstream_proxy
                .except
                .iter()
                .map(|rule| format!("{rule} ({})", rule.origin)),
        );
        let host_ports = policy.network.host_ports.iter();
        list(
            &mut out,
            "  host port  ",
            host_ports.map(|port| format!("{HOST_NAME}:{} ({})", port.value, port.origin)),
        );
    }
    let publish = policy.publish.iter();
    list(
        &mut out,
        "  publish    ",
        publish.map(|port| format!("{} ({})", port.value, port.origin)),
    );
    if mode == NetworkMode::Internet {
        out.push_str(
            "  else       public addresses; private, link-local and the host's own are refused\n",
        );
    } else if mode == NetworkMode::Allowlist {
        out.push_str("  else       refused\n");
    }
    out
}

fn environment(plan: &Plan) -> String {
    let mut out = String::new();
    for (name, value) in &plan.environment {
        let _ = writeln!(out, "  {name}={value}");
    }
    out
}

/// What limits the run, and by what it is enforced.
fn limits(plan: &Plan, policy: &Policy) -> String {
    let mut out = String::new();
    let group = plan.limits.group.as_ref();
    let means = |key: LimitKey| match key {
        LimitKey::TmpSize => "size of the mount",
        LimitKey::DiskFree
        | LimitKey::LayerSize
        | LimitKey::HomeSize
        | LimitKey::Timeout
        | LimitKey::IdleTimeout => "rcc",
        LimitKey::Pids if plan.limits.processes.is_some() => {
            "RLIMIT_NPROC of the sandbox's own user namespace"
        }
        _ => match group.map(|group| &group.place) {
            Some(GroupPlace::Scope { .. }) => "scope of systemd",
            Some(GroupPlace::Unified { .. }) => "control group, version 2",
            Some(GroupPlace::Legacy { .. }) => "control group, version 1",
            None => "nothing",
        },
    };
    for &key in LimitKey::ALL {
        let grouped = group.and_then(|group| group.settings.get(key));
        let said = policy.limits.value(key);
        // Implied by a limit of the memory where the kernel counts it.
        let without_group = said.filter(|_| key != LimitKey::Swap);
        let Some(value) = grouped.or(without_group) else {
            continue;
        };
        let origin = match policy.limits.stated(key) {
            _ if Some(value) != said => "the control group that rcc was started in".to_owned(),
            Some(limit) => limit.origin.to_string(),
            None => "default".to_owned(),
        };
        let _ = writeln!(
            out,
            "  {:<12} {} by {} ({})",
            key.as_str(),
            key.show(value),
            means(key),
            rcc_plan::escape(origin)
        );
    }
    out
}

fn hardening(plan: &Plan, policy: &Policy) -> String {
    let mut out = String::new();
    let filter = match &plan.hardening.seccomp {
        SeccompProfile::Default => "allow-list for development work",
        SeccompProfile::Strict => "short allow-list",
        SeccompProfile::Own { .. } => "the part of the allow-list that your own profile allows too",
    };
    let _ = writeln!(out, "  seccomp    {filter}");
    let writable: Vec<String> = plan
        .hardening
        .landlock
        .iter()
        .filter(|rule| rule.grant == Grant::Files)
        .map(|rule| rule.path.to_string())
        .collect();
    let _ = match plan.hardening.landlock_abi {
        0 => writeln!(out, "  landlock   none"),
        abi => writeln!(
            out,
            "  landlock   ABI {abi}, changes only below {}",
            writable.join(", ")
        ),
    };
    out.push_str("  privileges no capabilities, no_new_privs, own user, mount, pid, net, ipc, uts, cgroup namespaces\n");
    for danger in policy.dangers() {
        let _ = writeln!(
            out,
            "  WEAKENED   {} ({})",
            danger.value,
            rcc_plan::escape(danger.origin.to_string())
        );
    }
    out
}

fn protected(facts: &rcc_plan::HostFacts) -> Option<String> {
    let links: Vec<String> = facts
        .project
        .protected
        .iter()
        .filter(|entry| {
            matches!(
                entry.kind,
                rcc_plan::EntryKind::Symlink(_) | rcc_plan::EntryKind::Other
            )
        })
        .map(|entry| rcc_plan::escape(&entry.path))
        .collect();
    (!links.is_empty()).then(|| {
        format!(
            "  not covered, because they are links or special files: {}\n",
            links.join(", ")
        )
    })
}

/// Writes at most [`LIST_LIMIT`] lines, escaped, and how many were left out.
fn list(out: &mut String, indent: &str, lines: impl IntoIterator<Item = String>) {
    let mut lines = lines.into_iter();
    for line in lines.by_ref().take(LIST_LIMIT) {
        let _ = writeln!(out, "{indent}{}", rcc_plan::escape(line));
    }
    let rest = lines.count();
    if rest > 0 {
        let _ = writeln!(out, "{indent}and {rest} more");
    }
}

/// A word as a shell would need it, for people to read.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_spec::{LayerKind, SourceName, parse_toml};

    fn layer(text: &str) -> PolicyLayer {
        parse_toml(
            &format!("version = 1\n{text}"),
            &SourceName::file("rcc.toml"),
            LayerKind::Project,
        )
        .unwrap()
    }

    #[test]
    fn nothing_but_rules_for_names_is_ever_counted_instead_of_shown() {
        let names: Vec<String> = (0..100)
            .map(|number| format!("\"n{number}.example\""))
            .collect();
        let text = format!(
            "[network]\nallow = [{}, \"10.0.0.0/8\"]\n[files]\nrw = [\"~/.ssh\"]\n[hardening]\ndangerously_without_landlock = true\n",
            names.join(", ")
        );
        let shown = sentences(&layer(&text), None, None);
        for wanted in [
            "the network 10.0.0.0/8",
            "read and write ~/.ssh",
            "without Landlock",
            "and 60 more rules for names",
        ] {
            assert!(shown.contains(wanted), "{wanted} in {shown}");
        }
    }

    #[test]
    fn what_changed_is_marked() {
        let before = layer("[network]\nallow = [\"a.example\", \"b.example\"]\n");
        let now =
            layer("[network]\nallow = [\"a.example\", \"c.example\"]\n[files]\nrw = [\"~/x\"]\n");
        let shown = sentences(
            &now,
            Some(&before),
            Some(&["see .env, which was hidden".to_owned()]),
        );
        for line in [
            "  + see .env, which was hidden",
            "  + read and write ~/x",
            "  + reach c.example",
            "  - reach a.example",
            "  no longer: reach b.example",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
    }
}
