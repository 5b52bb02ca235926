//! What a user may say: policy, rules, hosts, sizes, presets; parse, merge, decide, explain.
//!
//! Pure: no file, no socket, no clock, no environment. Every text that comes from outside is parsed once, here, into a
//! type that cannot hold anything else, and every parser is total: it answers with a value or an error, never a panic.
//!
//! The way of a policy: [`parse_toml`] makes a [`PolicyLayer`] of each file, rule files are added with
//! [`PolicyLayer::add_rules`], [`merge()`] makes the [`Policy`], [`Policy::apply_preset`] adds what the agent needs, and
//! [`RuleSet::compile`] turns its network part into the one thing that says yes or no.
#![forbid(unsafe_code)]

mod address;
mod compare;
mod conf;
mod document;
mod environment;
mod error;
mod git_config;
mod glob;
mod host;
mod limits;
mod merge;
mod network;
mod origin;
mod path;
mod policy;
mod ports;
mod preset;
mod protected;
mod publish;
mod punycode;
pub mod registries;
mod rule;
mod ruleset;
#[cfg(test)]
mod ruleset_strategies;
mod size;
mod summary;
mod text;
mod toml_policy;
mod upstream_proxy;
mod verdict;
mod whitelist;

pub use address::{AddressClass, canonical_address, embedded_v4};
pub use conf::{RuleFile, parse_conf, parse_rule_file};
pub use document::decode;
pub use environment::{EnvError, EnvName, EnvPattern, check_env_value};
pub use error::{PolicyError, Position, Problem};
pub use git_config::{GIT_CONFIG_LIMIT_BYTES, GitConfigError, GitSetting, parse_git_config};
pub use glob::Pattern;
pub use host::{HostError, HostName, LABEL_MAX_BYTES, NAME_MAX_BYTES};
pub use limits::{DEFAULT_DISK_FREE, DEFAULT_PIDS, Limit, LimitError, LimitKey, Limits, Quantity};
pub use merge::{Layers, merge};
pub use network::{HOST_NAME, NetworkMode, NetworkPolicy};
pub use origin::{Origin, SourceKind, SourceName, Sourced};
pub use path::{PathBase, PathError, PathSpec};
pub use policy::{
    AgentPolicy, DEFAULT_SNAPSHOT_LIMIT, DEFAULT_TMP_SIZE, EnvPolicy, EnvSetting, FilesMode,
    FilesPolicy, HardeningPolicy, Policy, PolicyLayer, SeccompChoice,
};
pub use ports::{Checks, PortRange, Ports, PortsError, Protocol, Transport};
pub use preset::{AgentPreset, PathKind, StatePath};
pub use protected::{
    DEPENDENCY_DIRECTORIES, PROTECTED_NAMES, ProtectedClass, ProtectedName, ProtectedPlace,
    is_host_executed, protected_name,
};
pub use publish::{Publish, PublishError};
pub use registries::PackageManager;
pub use rule::{Effect, Rule, RuleError, Target};
pub use ruleset::RuleSet;
pub use size::{ByteSize, SizeError};
pub use toml_policy::{LayerKind, parse_toml};
pub use upstream_proxy::{
    CredentialsFrom, ProxyAddress, ProxyError, ProxyHost, UpstreamProxyPolicy,
};
pub use verdict::{Decision, Reason, RuleText, Verdict};
pub use whitelist::parse_whitelist;
