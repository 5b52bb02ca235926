//! Does one policy allow more than another? For the question whether a changed project file must be approved again.
//!
//! Must not miss a widening; may report one that is none, where telling would need more than comparing rules in pairs.
//! Policies are compared as sets: order, spelling and the places of rules do not matter.

use ipnet::IpNet;

use crate::address::{lies_in_plain_public, special_ranges_v4};
use crate::network::{NetworkMode, NetworkPolicy};
use crate::path::{PathBase, PathSpec};
use crate::policy::{Policy, SeccompChoice};
use crate::ports::{Checks, Ports, Protocol};
use crate::rule::{Effect, Rule, Target};
use crate::text::shorten;

impl Policy {
    /// Says what this policy lets the agent do that the `approved` one did not, in the words of [`Policy::summary`].
    ///
    /// Empty means: nothing is wider, the approval still holds.
    #[must_use]
    pub fn widenings(&self, approved: &Self) -> Vec<String> {
        let mut wider = Vec::new();
        compare_networks(&mut wider, &self.network, &approved.network);
        compare_ports(&mut wider, self, approved);
        self.compare_files(&mut wider, approved);
        self.compare_environment(&mut wider, approved);
        wider.extend(self.limits.widenings(&approved.limits));
        self.compare_hardening(&mut wider, approved);
        self.compare_agent(&mut wider, approved);
        wider
    }

    fn compare_files(&self, wider: &mut Vec<String>, approved: &Self) {
        let (new, old) = (&self.files, &approved.files);
        let lies_in = |path: &PathSpec, list: &[crate::Sourced<PathSpec>]| {
            list.iter().any(|old| is_at_or_below(path, &old.value))
        };
        for path in new.rw.iter().filter(|path| !lies_in(&path.value, &old.rw)) {
            wider.push(format!("read and write {}", shown(path.value.as_str())));
        }
        for path in &new.readonly {
            if !lies_in(&path.value, &old.readonly) && !lies_in(&path.value, &old.rw) {
                wider.push(format!("read {}", shown(path.value.as_str())));
            }
        }
        // Patterns are compared as texts.
        for path in old
            .hidden
            .iter()
            .filter(|path| !new.hidden.iter().any(|new| new.value == path.value))
        {
            wider.push(format!(
                "see {}, which was hidden",
                shown(path.value.as_str())
            ));
        }
        if new.mode.value > old.mode.value {
            wider.push(DIRECT.to_owned());
        }
        let keeps_none = |files: &crate::FilesPolicy| {
            files.mode.value == crate::FilesMode::Direct && !files.snapshot.value
        };
        if keeps_none(new) && old.snapshot.value {
            wider.push("change the project without a snapshot to go back to".to_owned());
        }
        if new.snapshot_limit.value > old.snapshot_limit.value {
            wider.push(format!(
                "have up to {} copied for a snapshot",
                new.snapshot_limit.value
            ));
        }
        if new.share_state.value && !old.share_state.value {
            wider.push("use and change the agent's real state in your home".to_owned());
        }
    }

    fn compare_environment(&self, wider: &mut Vec<String>, approved: &Self) {
        let (new, old) = (&self.env, &approved.env);
        for pattern in &new.pass {
            if !old
                .pass
                .iter()
                .any(|old| old.value.contains(&pattern.value))
            {
                wider.push(format!("read your environment variable {}", pattern.value));
            }
        }
        for setting in &new.set {
            let name = &setting.value.name;
            let before = old.set.iter().rev().find(|old| old.value.name == *name);
            if before.is_none_or(|before| before.value != setting.value) {
                wider.push(format!(
                    "run with {name}={} in its environment",
                    shown(&setting.value.value)
                ));
            }
        }
        // A variable that no longer has a fixed value has the caller's, if it is passed.
        for setting in &old.set {
            let name = setting.value.name.as_str();
            let still_set = new
                .set
                .iter()
                .any(|new| new.value.name == setting.value.name);
            if !still_set && new.pass.iter().any(|pattern| pattern.value.matches(name)) {
                wider.push(format!("read your environment variable {name}"));
            }
        }
    }

    fn compare_hardening(&self, wider: &mut Vec<String>, approved: &Self) {
        let (new, old) = (&self.hardening, &approved.hardening);
        match (&new.seccomp.value, &old.seccomp.value) {
            (SeccompChoice::Strict, _) | (SeccompChoice::Default, SeccompChoice::Default) => {}
            (new, old) if new == old => {}
            (SeccompChoice::Default, _) => {
                wider.push("use the default set of system calls".to_owned())
            }
            (SeccompChoice::Profile(path), _) => {
                wider.push(format!(
                    "use the system calls that the profile {} allows",
                    shown(path.as_str())
                ));
            }
        }
        if new.dangerously_without_landlock.value && !old.dangerously_without_landlock.value {
            wider.push("run without Landlock where the kernel has none".to_owned());
        }
        if new.dangerously_without_protected_paths.value
            && !old.dangerously_without_protected_paths.value
        {
            wider.push("write files that your own tools execute later".to_owned());
        }
    }

    fn compare_agent(&self, wider: &mut Vec<String>, approved: &Self) {
        let (new, old) = (&self.agent, &approved.agent);
        let name =
            |agent: &crate::AgentPolicy| agent.preset.as_ref().map(|preset| preset.value.clone());
        if let (Some(preset), true) = (name(new), name(new) != name(old)) {
            wider.push(format!("run as the agent `{preset}`"));
        }
        if new.preset_hosts.value && !old.preset_hosts.value {
            wider.push("reach the hosts of the agent's preset".to_owned());
        }
        let values = |agent: &crate::AgentPolicy| {
            agent
                .args
                .iter()
                .map(|arg| arg.value.clone())
                .collect::<Vec<_>>()
        };
        if values(new) != values(old) && !new.args.is_empty() {
            let args: Vec<String> = new
                .args
                .iter()
                .map(|arg| format!("`{}`", shown(&arg.value)))
                .collect();
            wider.push(format!("start the agent with {}", args.join(" ")));
        }
    }
}

fn compare_networks(wider: &mut Vec<String>, new: &NetworkPolicy, old: &NetworkPolicy) {
    match (new.mode, old.mode) {
        (NetworkMode::None, _) => return,
        (NetworkMode::Internet, NetworkMode::None | NetworkMode::Allowlist) => {
            wider.push("reach every public host on every port".to_owned());
        }
        _ => {}
    }
    if new.ask_seconds.is_some() && old.ask_seconds.is_none() && new.mode == NetworkMode::Allowlist
    {
        wider.push(crate::summary::ASK.to_owned());
    }
    // What mode `none` lists opens nothing and closes everything.
    let (old_allow, old_deny): (&[Rule], &[Rule]) = match old.mode {
        NetworkMode::None => (&[], &[]),
        NetworkMode::Allowlist | NetworkMode::Internet => (&old.allow, &old.deny),
    };
    for rule in &new.allow {
        let is_open = |rule: &Rule| {
            let open_anyway =
                old.mode == NetworkMode::Internet && is_open_in_internet(&rule.target);
            let open_anyway = open_anyway && rule.checks == Checks::ByName;
            open_anyway || is_covered(rule, old_allow, allows_all_of)
        };
        let rule = Rule {
            effect: Effect::Allow,
            ..rule.clone()
        };
        if is_open(&rule) {
            continue;
        }
        let checked = rule.clone().with_checks(Checks::ByName);
        wider.push(if is_open(&checked) {
            format!("{} with TLS and HTTP no longer checked", checked.sentence())
        } else {
            rule.sentence()
        });
    }
    for rule in old_deny {
        if !is_covered(rule, &new.deny, contains) {
            let sentence = Rule {
                effect: Effect::Allow,
                ..rule.clone()
            }
            .sentence();
            wider.push(format!("{sentence}, which was denied"));
        }
    }
}

/// Ports in both directions: each opens one thing, so only the very same is none wider.
fn compare_ports(wider: &mut Vec<String>, new: &Policy, old: &Policy) {
    if new.network.mode != NetworkMode::None {
        let had = |port: u16| {
            let mut ports = old.network.host_ports.iter();
            old.network.mode != NetworkMode::None && ports.any(|old| old.value == port)
        };
        let ports = new.network.host_ports.iter().map(|port| port.value);
        wider.extend(ports.filter(|&port| !had(port)).map(host_port_sentence));
    }
    for publish in &new.publish {
        if !old.publish.iter().any(|old| old.value == publish.value) {
            wider.push(publish.value.sentence());
        }
    }
    // A project cannot name one; this is for comparing effective policies.
    let proxy = |policy: &Policy| {
        let proxy = policy.upstream_proxy.address.as_ref();
        proxy.map(|proxy| proxy.value.clone())
    };
    if let (Some(address), true) = (proxy(new), proxy(new) != proxy(old)) {
        wider.push(format!("send its connections through the proxy {address}"));
    }
}

pub(crate) fn host_port_sentence(port: u16) -> String {
    format!("reach port {port} of the host's own loopback, as host.rcc.internal")
}

/// Tells whether mode `internet` reaches the target without any rule.
fn is_open_in_internet(target: &Target) -> bool {
    match target {
        Target::Host(_) | Target::Subdomains(_) => true,
        Target::Network(network) => !is_single(*network) && speaks_of_public_only(*network),
    }
}

/// Tells whether the rules whose targets contain this one's cover all its ports over each of its transports, as freely.
fn is_covered(rule: &Rule, by: &[Rule], contains: fn(&Target, &Target) -> bool) -> bool {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .filter(|&protocol| rule.transport.includes(protocol))
        .all(|protocol| {
            let wider = by.iter().filter(|wider| {
                wider.transport.includes(protocol)
                    && wider.checks >= rule.checks
                    && contains(&wider.target, &rule.target)
            });
            let ports = wider.fold(Ports::NONE, |ports, wider| ports.union(&wider.ports));
            rule.ports.without(&ports).is_empty()
        })
}

/// Tells whether everything in `inner` is in `outer`.
fn contains(outer: &Target, inner: &Target) -> bool {
    match (outer, inner) {
        (Target::Host(outer), Target::Host(inner)) => outer == inner,
        (Target::Subdomains(parent), Target::Host(name)) => name.is_below(parent),
        (Target::Subdomains(outer), Target::Subdomains(inner)) => {
            outer == inner || inner.is_below(outer)
        }
        (Target::Network(outer), Target::Network(inner)) => outer.contains(inner),
        (Target::Host(_) | Target::Network(_), _) | (Target::Subdomains(_), Target::Network(_)) => {
            false
        }
    }
}

/// As [`contains`], for allow rules: a narrow network can speak of a special address on purpose where a wide one does
/// not, and a single address of the host itself.
fn allows_all_of(outer: &Target, inner: &Target) -> bool {
    match (outer, inner) {
        (Target::Network(outer), Target::Network(inner)) => {
            let same_purpose = match (outer, inner) {
                (IpNet::V4(outer), IpNet::V4(inner)) => {
                    special_ranges_v4().all(|range| !range.contains(inner) || range.contains(outer))
                }
                _ => lies_in_plain_public(*inner),
            };
            outer == inner || (outer.contains(inner) && !is_single(*inner) && same_purpose)
        }
        _ => contains(outer, inner),
    }
}

fn speaks_of_public_only(network: IpNet) -> bool {
    match network {
        IpNet::V4(v4) => special_ranges_v4().all(|range| !range.contains(&v4)),
        IpNet::V6(_) => lies_in_plain_public(network),
    }
}

fn is_single(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// Tells whether granting `granted` grants `path`. Absolute paths and paths of the home are never compared: where the
/// home is, is not known here.
fn is_at_or_below(path: &PathSpec, granted: &PathSpec) -> bool {
    let same_base = match (path.base(), granted.base()) {
        (PathBase::Root, PathBase::Root)
        | (PathBase::Home, PathBase::Home)
        | (PathBase::Project, PathBase::Project) => true,
        (PathBase::Root | PathBase::Home | PathBase::Project, _) => false,
    };
    let rest = path.relative().strip_prefix(granted.relative());
    same_base
        && (granted.relative().is_empty()
            || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// What giving copy-on-write up means.
const DIRECT: &str = "change the project at once, instead of a copy that you look at first";

fn shown(text: &str) -> String {
    shorten(text, 200)
}

#[cfg(test)]
mod tests;
