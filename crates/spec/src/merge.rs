//! Four layers of policy become one: admin, user, project, flags.
//!
//! Must not widen silently. A layer that lists what is allowed and names no mode means mode `allowlist`: whoever
//! writes `allow = ["example.com"]` does not expect the rest of the Internet to be open.
//!
//! Scalars: the later layer wins. Lists: all layers add up. The admin's ceiling and deny rules always hold.

use crate::network::NetworkMode;
use crate::origin::{Origin, Sourced};
use crate::policy::{Policy, PolicyLayer};
use crate::publish::Publish;

/// The layers, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// `/etc/rcc/config.toml`.
    pub admin: PolicyLayer,
    /// The user's configuration file.
    pub user: PolicyLayer,
    /// `rcc.toml` of the project.
    pub project: PolicyLayer,
    /// The command line.
    pub flags: PolicyLayer,
}

/// Merges the layers into the effective policy.
#[must_use]
pub fn merge(layers: Layers) -> Policy {
    let mut policy = Policy::default();
    let mode = effective_mode(&layers);
    let ceiling = layers.admin.ceiling_mode.clone();
    let ceiling_limits = layers.admin.ceiling_limits.clone();
    let ask_seconds = ask_seconds(&layers);
    for layer in [layers.admin, layers.user, layers.project, layers.flags] {
        add(&mut policy, layer);
    }
    let (mode, notice) = below_ceiling(mode, ceiling);
    policy.notices.extend(notice);
    let held = policy.limits.hold_below(&ceiling_limits);
    policy.notices.extend(held);
    policy.network.mode = mode.value;
    policy.mode_origin = mode.origin;
    policy.network.ask_seconds = ask_seconds;
    policy
}

/// Time for an answer, if anyone is to be asked.
const ASK_SECONDS: u32 = 60;

fn ask_seconds(layers: &Layers) -> Option<u32> {
    let latest_first = [&layers.flags, &layers.project, &layers.user, &layers.admin];
    let asks = latest_first.iter().find_map(|layer| layer.ask.as_ref());
    let seconds = latest_first
        .iter()
        .find_map(|layer| layer.ask_timeout.as_ref());
    asks.is_some_and(|ask| ask.value)
        .then(|| seconds.map_or(ASK_SECONDS, |seconds| seconds.value))
}

/// The mode that the layers ask for, before the ceiling.
fn effective_mode(layers: &Layers) -> Sourced<NetworkMode> {
    let stated = |layer: &PolicyLayer| {
        layer.mode.clone().or_else(|| {
            let origin = layer.allow_stated.clone()?;
            Some(Sourced::new(NetworkMode::Allowlist, origin))
        })
    };
    let files = [&layers.project, &layers.user, &layers.admin]
        .into_iter()
        .find_map(stated);
    // A rule on the command line adds to the mode that a file chose; only where none did, it means an allowlist.
    match (&layers.flags.mode, files) {
        (Some(mode), _) => mode.clone(),
        (None, Some(mode)) => mode,
        (None, None) => stated(&layers.flags).unwrap_or(Sourced::default_of(NetworkMode::Internet)),
    }
}

fn below_ceiling(
    mode: Sourced<NetworkMode>,
    ceiling: Option<Sourced<NetworkMode>>,
) -> (Sourced<NetworkMode>, Option<String>) {
    match ceiling {
        Some(ceiling) if mode.value > ceiling.value => {
            // The default giving way is what the admin wants; only a stated wish that is not met is worth a line.
            let notice = (mode.origin != Origin::DEFAULT).then(|| {
                format!(
                    "network mode `{}` ({}) is above the ceiling, `{}` ({}) is used",
                    mode.value, mode.origin, ceiling.value, ceiling.origin
                )
            });
            (ceiling, notice)
        }
        _ => (mode, None),
    }
}

fn add(policy: &mut Policy, layer: PolicyLayer) {
    policy.network.allow.extend(layer.allow);
    policy.network.deny.extend(layer.deny);
    policy.presets.extend(layer.presets);
    policy.network.host_ports.extend(layer.host_ports);
    // A later layer that publishes the same port of the sandbox says where: so a flag helps when the file's is in use.
    let again = |old: &Sourced<Publish>| {
        layer
            .publish
            .iter()
            .any(|new| new.value.port == old.value.port)
    };
    policy.publish.retain(|old| !again(old));
    policy.publish.extend(layer.publish);
    if layer.upstream_proxy.is_some() {
        // Credentials are for one proxy; a layer that names another one must not send it the old one's.
        policy.upstream_proxy.address = layer.upstream_proxy;
        policy.upstream_proxy.credentials = None;
    }
    if layer.upstream_proxy_credentials.is_some() {
        policy.upstream_proxy.credentials = layer.upstream_proxy_credentials;
    }
    policy
        .upstream_proxy
        .except
        .extend(layer.upstream_proxy_except);
    policy.files.readonly.extend(layer.readonly);
    policy.files.rw.extend(layer.rw);
    policy.files.hidden.extend(layer.hidden);
    policy.env.pass.extend(layer.env_pass);
    policy.env.set.extend(layer.env_set);
    replace(&mut policy.files.mode, layer.files_mode);
    replace(&mut policy.files.share_state, layer.share_state);
    policy.limits.overlay(layer.limits);
    replace(&mut policy.files.snapshot, layer.snapshot);
    replace(&mut policy.files.snapshot_limit, layer.snapshot_limit);
    replace(&mut policy.hardening.seccomp, layer.seccomp);
    replace(
        &mut policy.hardening.dangerously_without_landlock,
        layer.dangerously_without_landlock,
    );
    replace(
        &mut policy.hardening.dangerously_without_protected_paths,
        layer.dangerously_without_protected_paths,
    );
    replace(&mut policy.agent.preset_hosts, layer.preset_hosts);
    if layer.preset.is_some() {
        policy.agent.preset = layer.preset;
    }
    replace(&mut policy.agent.args, layer.args);
}

fn replace<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

#[cfg(test)]
mod tests;
