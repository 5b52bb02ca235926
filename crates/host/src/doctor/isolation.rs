//! What the trial means: user namespaces, file systems, the filtered network; and why it failed, where that is known.
//!
//! Must not run anything: it turns outcomes, settings and the kind of system into findings.

use rustix::io::Errno;

use super::modules::apparmor_profile;
use super::system::{Container, System};
use super::trial::{Failure, Step, Trial, describe};
use super::{Check, Finding, Fix, Need, Status, setting};

const NAMESPACES: Check = Check {
    name: "user namespaces",
    need: Need::Required,
    protects: "lets an ordinary user build a sandbox without any privileged helper",
};
const MOUNTS: Check = Check {
    name: "mounts in a user namespace",
    need: Need::Required,
    protects: "a file system of the sandbox's own, in which the home and other secrets do not exist",
};
const PROCESSES: Check = Check {
    name: "own process list",
    need: Need::Required,
    protects: "the agent sees and signals its own processes only",
};
const OVERLAY: Check = Check {
    name: "overlay file systems",
    need: Need::Required,
    protects: "replaces single files of /etc without touching the host's",
};
const NETWORK: Check = Check {
    name: "filtered network",
    need: Need::Required,
    protects: "every connection of the agent ends at rcc's gateway; there is no other way out",
};
const IPV6: Check = Check {
    name: "IPv6 in the sandbox",
    need: Need::Optional,
    protects: "nothing; programs that insist on IPv6 need it",
};

/// What the kernel and its administrator say about user namespaces.
#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    /// `user.max_user_namespaces`, `namespaces(7)`.
    max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, a patch of Debian and of hardened kernels.
    unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, Ubuntu since 23.10.
    apparmor_restricts: Option<u64>,
}

impl Settings {
    fn read() -> Self {
        Self {
            max_user_namespaces: setting("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: setting("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

/// Turns the trial into findings.
pub(super) fn findings(trial: &Trial, system: &System) -> Vec<Finding> {
    judge(trial, system, Settings::read())
}

fn judge(trial: &Trial, system: &System, settings: Settings) -> Vec<Finding> {
    let steps = match trial {
        Trial::NoChild(failure) => {
            let fix = no_namespace(failure, system, settings);
            return vec![NAMESPACES.found(Status::Missing, describe(failure), fix)];
        }
        Trial::Steps(steps) => steps,
    };
    let failure = |step: Step| match steps.get(&step) {
        Some(Ok(())) => None,
        Some(Err(failure)) => Some(failure.clone()),
        None => Some(Failure {
            errno: None,
            text: "was not tried, because an earlier step failed".to_owned(),
        }),
    };
    let outcome =
        |check: Check, step: Step, detail: &str, fix: &dyn Fn(&Failure) -> Option<Fix>| {
            match failure(step) {
                None => check.ok(detail),
                Some(failure) => check.found(Status::Missing, describe(&failure), fix(&failure)),
            }
        };
    let mut found = vec![
        outcome(NAMESPACES, Step::Ids, "can be created", &|failure| {
            no_capability(failure, system, settings)
        }),
        outcome(MOUNTS, Step::Memory, "work", &|failure| {
            no_capability(failure, system, settings)
        }),
        outcome(PROCESSES, Step::Processes, "works", &|failure| {
            masked_proc(failure, system)
        }),
        outcome(
            OVERLAY,
            Step::Overlay,
            "work in a user namespace",
            &|failure| no_module(failure, "overlay", system),
        ),
    ];
    let broken = [Step::Rules, Step::Link, Step::Agent, Step::ConnectV4]
        .into_iter()
        .find_map(|step| failure(step).map(|failure| (step, failure)));
    found.push(match broken {
        None => NETWORK.ok("veth, nf_tables and transparent proxying work in a user namespace"),
        Some((step, failure)) => {
            let modules = match step {
                Step::Link => "veth",
                _ => "nf_tables nft_tproxy nft_reject_inet",
            };
            let fix = no_capability(&failure, system, settings)
                .or_else(|| no_module(&failure, modules, system));
            NETWORK.found(Status::Missing, describe(&failure), fix)
        }
    });
    found.push(match failure(Step::ConnectV6) {
        None => IPV6.ok("works"),
        Some(_) if !steps.contains_key(&Step::ConnectV6) && failure(Step::ConnectV4).is_none() => {
            let detail = "the kernel has IPv6 switched off; the sandbox has IPv4 only";
            IPV6.found(Status::Degraded, detail, None)
        }
        Some(failure) => IPV6.found(Status::Degraded, describe(&failure), None),
    });
    found
}

/// Why no user namespace could be made.
fn no_namespace(failure: &Failure, system: &System, settings: Settings) -> Option<Fix> {
    if system.wsl == Some(1) {
        return Some(Fix::new(
            "version 1 of the Windows Subsystem for Linux has no namespaces; convert the distribution in a Windows shell",
            ["wsl --set-version <distribution> 2".to_owned()],
        ));
    }
    match failure.errno? {
        Errno::NOSPC | Errno::USERS => {
            let why = match settings.max_user_namespaces {
                Some(0) => "user namespaces are switched off",
                _ => "the limit of user namespaces is used up, or they are nested too deeply",
            };
            Some(system.set(why, "user.max_user_namespaces", "15000"))
        }
        Errno::NOSYS => Some(Fix::new(
            "clone3(2) does not exist here: the kernel is older than 5.3, or a system-call filter hides it",
            container_commands(system.container),
        )),
        Errno::INVAL => Some(Fix::new(
            "the kernel was built without user namespaces (CONFIG_USER_NS); start one of the distribution's own kernels",
            [],
        )),
        Errno::BUSY => None,
        Errno::PERM if settings.unprivileged_userns_clone == Some(0) => Some(system.set(
            "user namespaces are reserved for root",
            "kernel.unprivileged_userns_clone",
            "1",
        )),
        Errno::PERM if system.chroot => Some(Fix::new(
            "rcc runs below chroot(2), where the kernel forbids user namespaces; enter that directory with a container tool that uses pivot_root(2), such as bubblewrap",
            ["bwrap --bind <directory> / --dev /dev --proc /proc <command>".to_owned()],
        )),
        _ => no_capability(failure, system, settings).or_else(|| {
            Some(Fix::new(
                "a security module or a system-call filter forbids user namespaces; look for the refusal in the kernel's log",
                ["sudo journalctl -k --grep='denied|userns'".to_owned()],
            ))
        }),
    }
}

/// Why a namespace could be made but gave no capabilities.
fn no_capability(failure: &Failure, system: &System, settings: Settings) -> Option<Fix> {
    if !matches!(failure.errno, Some(Errno::PERM | Errno::ACCESS)) {
        return None;
    }
    if let Some(container) = system.container {
        return Some(inside(container));
    }
    (settings.apparmor_restricts == Some(1)).then(apparmor_profile)
}

/// Container engines cover parts of `/proc`; the kernel then allows no uncovered one inside.
fn masked_proc(failure: &Failure, system: &System) -> Option<Fix> {
    match (failure.errno, system.container) {
        (Some(Errno::PERM | Errno::ACCESS), Some(container)) => Some(inside(container)),
        (Some(Errno::PERM), None) => Some(Fix::new(
            "parts of /proc are covered by other mounts, and then the kernel allows no uncovered one in a user namespace; remove what is mounted there",
            ["findmnt --submounts /proc".to_owned()],
        )),
        _ => None,
    }
}

fn no_module(failure: &Failure, modules: &str, system: &System) -> Option<Fix> {
    let absent = matches!(
        failure.errno,
        Some(
            Errno::OPNOTSUPP
                | Errno::NOENT
                | Errno::NODEV
                | Errno::PROTONOSUPPORT
                | Errno::AFNOSUPPORT
        )
    );
    if !absent {
        return None;
    }
    let mut text = format!("the kernel lacks the modules {modules}");
    if system.container.is_some() {
        text.push_str("; they can only be loaded on the host of this container");
    }
    if system.wsl == Some(2) {
        return Some(Fix::new(
            format!("{text}; newer kernels of WSL have them: update in a Windows shell"),
            ["wsl --update".to_owned(), "wsl --shutdown".to_owned()],
        ));
    }
    Some(Fix::new(
        text,
        [
            format!("sudo modprobe --all {modules}"),
            format!("printf '%s\\n' {modules} | sudo tee /etc/modules-load.d/rcc.conf"),
        ],
    ))
}

/// How to allow sandboxes inside a container. Said plainly: it weakens the container.
fn inside(container: Container) -> Fix {
    let (name, change) = match container {
        Container::Docker => ("Docker", "start it with these options"),
        Container::Podman => ("Podman", "start it with these options"),
        Container::Kubernetes => (
            "Kubernetes",
            "the pod needs hostUsers: false, procMount: Unmasked and seccompProfile: Unconfined",
        ),
        Container::Lxc => ("LXC", "allow nesting for it on the host"),
        Container::Other => (
            "the container engine",
            "allow user namespaces and an uncovered /proc for it",
        ),
    };
    Fix::new(
        format!(
            "{name} forbids this inside the container; {change} (this weakens the container itself), or run rcc on its host"
        ),
        container_commands(Some(container)),
    )
}

fn container_commands(container: Option<Container>) -> Vec<String> {
    let command = match container {
        Some(Container::Docker) => {
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined …"
        }
        Some(Container::Podman) => {
            "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL …"
        }
        Some(Container::Lxc) => "incus config set <instance> security.nesting true",
        Some(Container::Kubernetes | Container::Other) | None => return Vec::new(),
    };
    vec![command.to_owned()]
}

#[cfg(test)]
mod tests;
