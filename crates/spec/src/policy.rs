//! The effective policy of one run: every value decided, each with its origin.
//!
//! Must not contain options: what no layer says has the default here.

use serde::{Deserialize, Serialize};

use crate::environment::{EnvName, EnvPattern};
use crate::limits::Limits;
use crate::network::{NetworkMode, NetworkPolicy};
use crate::origin::{Origin, SourceName, Sourced};
use crate::path::PathSpec;
use crate::publish::Publish;
use crate::registries::PackageManager;
use crate::size::ByteSize;
use crate::upstream_proxy::{CredentialsFrom, ProxyAddress, UpstreamProxyPolicy};

/// What the user allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Mode and rules of the network.
    pub network: NetworkPolicy,
    /// Where the network mode was set.
    pub mode_origin: Origin,
    /// Package managers whose registries are allowed; their rules are among those of the network.
    pub presets: Vec<Sourced<PackageManager>>,
    /// Ports of the sandbox that the host listens on.
    pub publish: Vec<Sourced<Publish>>,
    /// What connections leave through.
    pub upstream_proxy: UpstreamProxyPolicy,
    /// Files of the project and beyond it.
    pub files: FilesPolicy,
    /// Variables that reach the agent.
    pub env: EnvPolicy,
    /// Limits of memory, processes, time and the like.
    pub limits: Limits,
    /// Confinement.
    pub hardening: HardeningPolicy,
    /// Which agent, with which arguments.
    pub agent: AgentPolicy,
    /// What merging changed against the wish of a layer; to be shown at every start.
    pub notices: Vec<String>,
}

/// Where the agent's changes to the project go. Ordered from the narrower to the wider.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum FilesMode {
    /// Into a layer of the run's own (copy-on-write); the project changes when its owner applies them.
    Cow,
    /// Into the project itself.
    #[default]
    Direct,
}

impl FilesMode {
    /// The words of policy files.
    pub const WORDS: &'static [&'static str] = &["direct", "cow"];

    /// The word in policy files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cow => "cow",
            Self::Direct => "direct",
        }
    }
}

/// Files of the project and beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesPolicy {
    /// Where changes of the project go.
    pub mode: Sourced<FilesMode>,
    /// Paths to see and not to change.
    pub readonly: Vec<Sourced<PathSpec>>,
    /// Paths to see and change.
    pub rw: Vec<Sourced<PathSpec>>,
    /// Paths and patterns that do not exist inside, even in the project.
    pub hidden: Vec<Sourced<PathSpec>>,
    /// Bind the agent's real state instead of the agent home's copy.
    pub share_state: Sourced<bool>,
    /// Copy the project before a direct run, for `rcc undo`.
    pub snapshot: Sourced<bool>,
    /// Most bytes that such a copy may take where the file system cannot share them.
    pub snapshot_limit: Sourced<ByteSize>,
}

/// Variables that reach the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvPolicy {
    /// Variables of the caller that are passed.
    pub pass: Vec<Sourced<EnvPattern>>,
    /// Variables with fixed values; the last one of a name counts, and beats `pass`.
    pub set: Vec<Sourced<EnvSetting>>,
}

/// A variable and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvSetting {
    /// The variable.
    pub name: EnvName,
    /// Its value, without NUL.
    pub value: String,
}

/// Which system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompChoice {
    /// What development tools need.
    Default,
    /// About 70 system calls.
    Strict,
    /// A profile of the user, in the format of the OCI runtime specification.
    Profile(PathSpec),
}

/// Confinement, strict unless a `dangerously_…` word says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardeningPolicy {
    /// The system call filter.
    pub seccomp: Sourced<SeccompChoice>,
    /// Run without Landlock where the kernel has none.
    pub dangerously_without_landlock: Sourced<bool>,
    /// Leave host-executed files of the project writable.
    pub dangerously_without_protected_paths: Sourced<bool>,
}

/// Which agent, with which arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPolicy {
    /// Name of the preset; none for plain commands.
    pub preset: Option<Sourced<String>>,
    /// Arguments in front of the caller's.
    pub args: Vec<Sourced<String>>,
    /// Whether the hosts of the preset are allowed.
    pub preset_hosts: Sourced<bool>,
}

/// Size of the private `/tmp` when nobody says otherwise.
pub const DEFAULT_TMP_SIZE: ByteSize = ByteSize::from_mib(2048);

/// Most bytes of a snapshot that have to be copied, when nobody says otherwise: some seconds of a disk's time.
pub const DEFAULT_SNAPSHOT_LIMIT: ByteSize = ByteSize::from_mib(4096);

impl Default for Policy {
    /// What holds when no file and no flag says anything: public Internet, no files but the project, full hardening.
    fn default() -> Self {
        Self {
            network: NetworkPolicy::new(NetworkMode::Internet),
            mode_origin: Origin::DEFAULT,
            presets: Vec::new(),
            publish: Vec::new(),
            upstream_proxy: UpstreamProxyPolicy::default(),
            files: FilesPolicy {
                mode: Sourced::default_of(FilesMode::Direct),
                readonly: Vec::new(),
                rw: Vec::new(),
                hidden: Vec::new(),
                share_state: Sourced::default_of(false),
                snapshot: Sourced::default_of(false),
                snapshot_limit: Sourced::default_of(DEFAULT_SNAPSHOT_LIMIT),
            },
            env: EnvPolicy {
                pass: Vec::new(),
                set: Vec::new(),
            },
            limits: Limits::default(),
            hardening: HardeningPolicy {
                seccomp: Sourced::default_of(SeccompChoice::Default),
                dangerously_without_landlock: Sourced::default_of(false),
                dangerously_without_protected_paths: Sourced::default_of(false),
            },
            agent: AgentPolicy {
                preset: None,
                args: Vec::new(),
                preset_hosts: Sourced::default_of(true),
            },
            notices: Vec::new(),
        }
    }
}

impl Policy {
    /// Lists the `dangerously_…` words in force, each with the place that set it, for the warning at every start.
    #[must_use]
    pub fn dangers(&self) -> Vec<Sourced<&'static str>> {
        let hardening = &self.hardening;
        [
            (
                "dangerously_without_landlock",
                &hardening.dangerously_without_landlock,
            ),
            (
                "dangerously_without_protected_paths",
                &hardening.dangerously_without_protected_paths,
            ),
        ]
        .into_iter()
        .filter(|(_, switch)| switch.value)
        .map(|(word, switch)| Sourced::new(word, switch.origin.clone()))
        .collect()
    }

    /// Adds what an agent preset brings: its hosts (unless `preset_hosts = false` or mode `none`), and its variables.
    ///
    /// Settings of files and flags win over the preset's.
    pub fn apply_preset(&mut self, preset: &crate::AgentPreset) {
        let origin = Origin::preset(&preset.name);
        if self.agent.preset_hosts.value && self.network.mode != NetworkMode::None {
            self.network.allow.extend(preset.hosts.iter().cloned());
        }
        let pass = preset
            .env_pass
            .iter()
            .filter(|p| !self.env.pass.iter().any(|have| have.value == **p));
        let pass: Vec<_> = pass
            .map(|p| Sourced::new(p.clone(), origin.clone()))
            .collect();
        self.env.pass.extend(pass);
        let set = preset
            .env_set
            .iter()
            .filter(|s| !self.env.set.iter().any(|have| have.value.name == s.name));
        // In front, because the last setting of a name counts.
        let set: Vec<_> = set
            .map(|s| Sourced::new(s.clone(), origin.clone()))
            .collect();
        self.env.set.splice(0..0, set);
    }
}

/// One source of policy: a file or the flags. What it does not say is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyLayer {
    /// `[network] mode`.
    pub mode: Option<Sourced<NetworkMode>>,
    /// `[network] allow` and the content of its `allow_files`.
    pub allow: Vec<crate::Rule>,
    /// `[network] deny` and the deny lines of its `allow_files`.
    pub deny: Vec<crate::Rule>,
    /// `[network] allow_files`: rule files still to be read and added with [`PolicyLayer::add_rules`].
    pub allow_files: Vec<Sourced<PathSpec>>,
    /// `[network] presets`: package managers whose registries are still to be derived on the host and added as rules.
    pub presets: Vec<Sourced<PackageManager>>,
    /// `[network] ask`.
    pub ask: Option<Sourced<bool>>,
    /// `[network] ask_timeout`, in seconds.
    pub ask_timeout: Option<Sourced<u32>>,
    /// `[network] host_ports`.
    pub host_ports: Vec<Sourced<u16>>,
    /// `[network] publish`.
    pub publish: Vec<Sourced<Publish>>,
    /// `[network] upstream_proxy`; never in a project's file.
    pub upstream_proxy: Option<Sourced<ProxyAddress>>,
    /// `[network] upstream_proxy_credentials_file` or `…_env`.
    pub upstream_proxy_credentials: Option<Sourced<CredentialsFrom>>,
    /// `[network] upstream_proxy_except`.
    pub upstream_proxy_except: Vec<crate::Rule>,
    /// Where the layer first listed what is allowed, even as an empty list.
    pub allow_stated: Option<Origin>,
    /// `[files] mode`.
    pub files_mode: Option<Sourced<FilesMode>>,
    /// `[files] readonly`.
    pub readonly: Vec<Sourced<PathSpec>>,
    /// `[files] rw`.
    pub rw: Vec<Sourced<PathSpec>>,
    /// `[files] hidden`.
    pub hidden: Vec<Sourced<PathSpec>>,
    /// `[files] share_state`.
    pub share_state: Option<Sourced<bool>>,
    /// `[files] snapshot`.
    pub snapshot: Option<Sourced<bool>>,
    /// `[files] snapshot_limit`.
    pub snapshot_limit: Option<Sourced<ByteSize>>,
    /// `[env] pass`.
    pub env_pass: Vec<Sourced<EnvPattern>>,
    /// `[env] set`.
    pub env_set: Vec<Sourced<EnvSetting>>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[hardening] seccomp`.
    pub seccomp: Option<Sourced<SeccompChoice>>,
    /// `[hardening] dangerously_without_landlock`.
    pub dangerously_without_landlock: Option<Sourced<bool>>,
    /// `[hardening] dangerously_without_protected_paths`.
    pub dangerously_without_protected_paths: Option<Sourced<bool>>,
    /// `[agent] preset`.
    pub preset: Option<Sourced<String>>,
    /// `[agent] args`; a later layer that has any replaces them all.
    pub args: Option<Vec<Sourced<String>>>,
    /// `[agent] preset_hosts`.
    pub preset_hosts: Option<Sourced<bool>>,
    /// `[ceiling] mode`; only the admin's file has it.
    pub ceiling_mode: Option<Sourced<NetworkMode>>,
    /// `[ceiling.limits]`; only the admin's file has it.
    pub ceiling_limits: Limits,
}

impl PolicyLayer {
    /// Adds the rules of a rule file or of a flag.
    pub fn add_rules(&mut self, rules: crate::RuleFile, source: &SourceName) {
        if self.allow_stated.is_none() {
            self.allow_stated = Some(source.line(0));
        }
        if self.mode.is_none() {
            self.mode = rules.mode;
        }
        self.allow.extend(rules.allow);
        self.deny.extend(rules.deny);
    }

    /// Adds one rule where its effect belongs. An allow rule makes the layer one that lists what is allowed.
    pub fn push_rule(&mut self, rule: crate::Rule) {
        match rule.effect {
            crate::Effect::Allow => {
                self.allow_stated.get_or_insert_with(|| rule.origin.clone());
                self.allow.push(rule);
            }
            crate::Effect::Deny => self.deny.push(rule),
        }
    }
}
