//! A policy in sentences, for the trust dialogue and for `rcc plan`.
//!
//! Must not leave out anything that widens what the agent can do.

use crate::compare::host_port_sentence;
use crate::network::NetworkMode;
use crate::policy::{FilesMode, Policy, SeccompChoice};
use crate::ports::{Checks, Ports, Transport};
use crate::rule::{Effect, Rule, Target};
use crate::text::shorten;

/// What an agent may do in ask mode.
pub(crate) const ASK: &str = "ask you about hosts that no rule names, and wait for the answer";

impl Policy {
    /// Says what the policy lets the agent do, one sentence per thing, without a full stop, in a stable order.
    ///
    /// Each starts with a verb in its base form: "reach example.com on ports 80 and 443".
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        self.summarize_network(&mut sentences);
        let publish = self.publish.iter();
        sentences.extend(publish.map(|publish| publish.value.sentence()));
        if self.files.mode.value == FilesMode::Cow {
            sentences.push("change a copy of the project, which you apply or discard".to_owned());
        } else if self.files.snapshot.value {
            sentences
                .push("change the project, of which a snapshot is kept for rcc undo".to_owned());
        }
        for path in &self.files.readonly {
            sentences.push(format!("read {}", shown(path.value.as_str())));
        }
        for path in &self.files.rw {
            sentences.push(format!("read and write {}", shown(path.value.as_str())));
        }
        for path in &self.files.hidden {
            sentences.push(format!("not see {}", shown(path.value.as_str())));
        }
        if self.files.share_state.value {
            sentences.push("use and change the agent's real state in your home".to_owned());
        }
        for pattern in &self.env.pass {
            sentences.push(format!("read your environment variable {}", pattern.value));
        }
        for setting in &self.env.set {
            let value = shown(&setting.value.value);
            sentences.push(format!(
                "run with {}={value} in its environment",
                setting.value.name
            ));
        }
        self.summarize_hardening(&mut sentences);
        self.summarize_agent(&mut sentences);
        sentences
    }

    fn summarize_network(&self, sentences: &mut Vec<String>) {
        match self.network.mode {
            NetworkMode::None => {
                sentences.push("use no network".to_owned());
                return;
            }
            NetworkMode::Internet => {
                sentences.push("reach every public host on every port".to_owned())
            }
            NetworkMode::Allowlist if self.network.ask_seconds.is_some() => {
                sentences.push(ASK.to_owned());
            }
            NetworkMode::Allowlist if self.network.allow.is_empty() => {
                sentences.push("reach no host, because no rule allows one".to_owned());
            }
            NetworkMode::Allowlist => {}
        }
        for preset in &self.presets {
            sentences.push(format!(
                "reach the registries that your own configuration of {} names, now and after you change it (preset `{}`)",
                preset.value, preset.value
            ));
        }
        sentences.extend(self.network.allow.iter().map(Rule::sentence));
        sentences.extend(self.network.deny.iter().map(Rule::sentence));
        let ports = self.network.host_ports.iter();
        sentences.extend(ports.map(|port| host_port_sentence(port.value)));
        if let Some(proxy) = &self.upstream_proxy.address {
            sentences.push(format!(
                "send its connections through the proxy {}",
                proxy.value
            ));
        }
    }

    fn summarize_hardening(&self, sentences: &mut Vec<String>) {
        sentences.extend(self.limits.sentences());
        match &self.hardening.seccomp.value {
            SeccompChoice::Default => {}
            SeccompChoice::Strict => {
                sentences.push("use only the strict set of system calls".to_owned())
            }
            SeccompChoice::Profile(path) => {
                sentences.push(format!(
                    "use the system calls that the profile {} allows",
                    shown(path.as_str())
                ));
            }
        }
        if self.hardening.dangerously_without_landlock.value {
            sentences.push("run without Landlock where the kernel has none".to_owned());
        }
        if self.hardening.dangerously_without_protected_paths.value {
            sentences.push("write files that your own tools execute later".to_owned());
        }
    }

    fn summarize_agent(&self, sentences: &mut Vec<String>) {
        if let Some(preset) = &self.agent.preset {
            sentences.push(format!("run as the agent `{}`", preset.value));
        }
        if !self.agent.args.is_empty() {
            let args: Vec<String> = self
                .agent
                .args
                .iter()
                .map(|arg| format!("`{}`", shown(&arg.value)))
                .collect();
            sentences.push(format!("start the agent with {}", args.join(" ")));
        }
    }
}

impl Rule {
    /// Says the rule as a sentence: "reach example.com on ports 80 and 443".
    #[must_use]
    pub fn sentence(&self) -> String {
        let verb = match self.effect {
            Effect::Allow => "reach",
            Effect::Deny => "not reach",
        };
        let target = match &self.target {
            Target::Host(host) => host.to_string(),
            Target::Subdomains(parent) => format!("every host below {parent}"),
            Target::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                format!("the address {}", network.addr())
            }
            Target::Network(network) => format!("the network {network}"),
        };
        let transport = match (self.transport, self.effect) {
            (Transport::Tcp, Effect::Allow) | (Transport::Any, Effect::Deny) => "",
            (Transport::Tcp, Effect::Deny) => " over TCP",
            (Transport::Udp, _) => " over UDP",
            (Transport::Any, Effect::Allow) => " over TCP and UDP",
        };
        let checks = match self.checks {
            Checks::ByName => "",
            Checks::Raw => " with TLS and HTTP unchecked",
        };
        format!(
            "{verb} {target} {}{transport}{checks}",
            ports_in_words(&self.ports)
        )
    }
}

fn ports_in_words(ports: &Ports) -> String {
    if ports.is_all() {
        return "on every port".to_owned();
    }
    let words: Vec<String> = ports.ranges().iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [] => "on no port".to_owned(),
        [one] if !one.contains('-') => format!("on port {one}"),
        _ => format!("on ports {}", words.join(", ")),
    }
}

fn shown(text: &str) -> String {
    shorten(text, 200)
}

#[cfg(test)]
mod tests;
