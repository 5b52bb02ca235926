//! The files of `/etc` that rcc writes itself.
//!
//! They say what is true inside: one user, one resolver, this host's name and nothing of the real host's.

use crate::facts::HostFacts;
use crate::network;
use crate::plan::MountStep;
use crate::{SafeBytes, planner};

/// Identifies no machine: the sandbox must not tell the host's `machine-id(5)`.
const MACHINE_ID: &str = "72636372636372636372636372636372\n";

/// Builds the step that mounts `/etc`.
pub(crate) fn etc(facts: &HostFacts) -> MountStep {
    let hostname = planner::HOSTNAME;
    let synthetic = [
        ("passwd", passwd(facts)),
        ("group", group(facts)),
        ("hosts", format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost ip6-loopback {hostname}\n")),
        ("hostname", format!("{hostname}\n")),
        // EDNS lets the resolver say why it refuses (RFC 8914).
        ("resolv.conf", format!("nameserver {}\noptions edns0\n", network::ROUTER_V4)),
        ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n".to_owned()),
        ("machine-id", MACHINE_ID.to_owned()),
    ];
    let replaced = |path: &std::path::Path| {
        synthetic
            .iter()
            .any(|(name, _)| path == std::path::Path::new(name))
    };
    MountStep::Etc {
        absent: facts
            .etc
            .secrets
            .iter()
            .filter(|path| !replaced(path))
            .map(|path| path.clone().into())
            .collect(),
        synthetic: synthetic
            .into_iter()
            .map(|(name, content)| (SafeBytes::from(name), content))
            .collect(),
    }
}

/// A field of a colon-separated file: a name with a colon or a line break would forge another entry.
fn field(text: impl AsRef<std::ffi::OsStr>) -> String {
    text.as_ref()
        .to_string_lossy()
        .chars()
        .filter(|character| *character != ':' && !character.is_control())
        .collect()
}

fn passwd(facts: &HostFacts) -> String {
    let user = &facts.user;
    let caller = format!(
        "{name}:x:{}:{}:{name}:{}:{}\n",
        user.uid,
        user.gid,
        field(&facts.home),
        field(&user.shell),
        name = field(&user.name),
    );
    let root = if user.uid == 0 {
        String::new()
    } else {
        "root:x:0:0:root:/root:/bin/sh\n".to_owned()
    };
    format!("{root}{caller}nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
}

fn group(facts: &HostFacts) -> String {
    let root = if facts.user.gid == 0 {
        ""
    } else {
        "root:x:0:\n"
    };
    format!(
        "{root}{}:x:{}:\nnogroup:x:65534:\n",
        field(&facts.user.name),
        facts.user.gid
    )
}
