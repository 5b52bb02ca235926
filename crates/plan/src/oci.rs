//! A user's own seccomp profile in the format of the OCI runtime specification (`linux.seccomp` of its `config.md`).
//!
//! Such a profile can only narrow: what it allows is cut with rcc's own list when the filter is built, and rcc's refusals
//! by argument stay. So conditions on arguments need not be understood: a rule with conditions allows its calls only
//! where rcc checks arguments itself. Rules that depend on a capability are left out, since an agent has none.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Calls whose arguments rcc's filter checks, whatever a profile says.
const CHECKED_BY_RCC: [&str; 6] = [
    "clone",
    "ioctl",
    "personality",
    "socket",
    "socketpair",
    "unshare",
];

/// Largest profile that is looked at, in bytes; the container engines' own have 30 KiB.
pub const PROFILE_LIMIT_BYTES: usize = 1 << 20;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is no JSON of that format.
    #[error("it is no seccomp profile of the OCI runtime specification: {reason}")]
    Format {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// Its default lets calls through.
    #[error(
        "its defaultAction {action} lets through what it does not name; rcc needs a list of what is allowed"
    )]
    AllowsByDefault {
        /// The action.
        action: String,
    },
    /// Nothing could be executed.
    #[error("it does not allow execve, so no command could start")]
    NoExecve,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    args: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    includes: Option<Conditions>,
}

#[derive(Deserialize)]
struct Conditions {
    #[serde(default)]
    caps: Vec<String>,
}

/// Reads the names of the calls that a profile allows.
pub(crate) fn allowed_names(text: &str) -> Result<BTreeSet<String>, ProfileError> {
    let profile: Profile = serde_json::from_str(text).map_err(|error| ProfileError::Format {
        reason: error.to_string(),
    })?;
    let refusing = [
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
    ];
    if !refusing.contains(&profile.default_action.as_str()) {
        return Err(ProfileError::AllowsByDefault {
            action: profile.default_action,
        });
    }
    let mut allowed = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for rule in profile.syscalls {
        let needs_capability = rule
            .includes
            .is_some_and(|conditions| !conditions.caps.is_empty());
        let has_conditions = rule.args.is_some_and(|conditions| !conditions.is_empty());
        if rule.action == "SCMP_ACT_ALLOW" {
            let counts = |name: &String| !has_conditions || CHECKED_BY_RCC.contains(&name.as_str());
            if !needs_capability {
                allowed.extend(rule.names.into_iter().filter(counts));
            }
        } else if !has_conditions && !needs_capability {
            refused.extend(rule.names);
        }
    }
    allowed.retain(|name| !refused.contains(name));
    if allowed.contains("execve") {
        Ok(allowed)
    } else {
        Err(ProfileError::NoExecve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        allowed_names(text).unwrap().into_iter().collect()
    }

    #[test]
    fn plain_rules_count_and_conditions_only_where_rcc_checks_them_too() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["execve","read","mount"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone","kcmp"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
            {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
            {"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(names(text), ["clone", "execve", "read"]);
    }

    #[test]
    fn a_profile_that_allows_by_default_or_starts_nothing_is_refused() {
        let error = allowed_names(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap_err();
        assert_eq!(
            error,
            ProfileError::AllowsByDefault {
                action: "SCMP_ACT_ALLOW".to_owned()
            }
        );
        assert_eq!(
            allowed_names(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap_err(),
            ProfileError::NoExecve
        );
        assert!(matches!(
            allowed_names("[]"),
            Err(ProfileError::Format { .. })
        ));
    }
}
