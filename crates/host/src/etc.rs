//! What the sandbox must not see of the host's `/etc`.
//!
//! For an ordinary caller file permissions already hide most secrets; the list is a second layer for hosts where they
//! are too open. A root caller passes every permission check, so for root every entry that "others" may not read is
//! hidden. Must not follow links: a link's target is judged where it lies.

use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rcc_plan::EtcFacts;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};

/// Well-known holders of password hashes, private keys and credentials, relative to `/etc`.
const SECRETS: &[&str] = &[
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "security/opasswd",
    "sudoers",
    "sudoers.d",
    "doas.conf",
    "krb5.keytab",
    "ssl/private",
    "pki/tls/private",
    "pki/private",
    "letsencrypt",
    "ssh/ssh_host_rsa_key",
    "ssh/ssh_host_ecdsa_key",
    "ssh/ssh_host_ed25519_key",
    "wireguard",
    "openvpn",
    "ipsec.secrets",
    "swanctl/private",
    "ppp/chap-secrets",
    "ppp/pap-secrets",
    "NetworkManager/system-connections",
    "wpa_supplicant",
    "iwd",
    "polkit-1",
    "docker/certs.d",
    "docker/key.json",
    "containers/auth.json",
    "kubernetes",
    "rancher",
    "cni",
    "cloud",
    "waagent.conf",
    "machine-id",
    "credstore",
    "credstore.encrypted",
    "crypttab",
    "fstab",
    "exports",
    "samba",
    "cups",
    "postfix/sasl_passwd",
    "exim4/passwd.client",
    "msmtprc",
    "mysql/debian.cnf",
    "postgresql",
    "redis",
    "apt/auth.conf",
    "apt/auth.conf.d",
    "rsyncd.secrets",
    "netrc",
    "rcc",
];

/// Deepest directory that is looked into for a root caller, in components below `/etc`.
const DEPTH_LIMIT: usize = 8;
/// Most entries looked at for a root caller; beyond it the rest of `/etc` is hidden, never shown.
const ENTRY_LIMIT: usize = 50_000;

/// Gathers the facts about `/etc`.
pub(crate) fn facts(uid: u32) -> EtcFacts {
    facts_below(Path::new("/etc"), uid)
}

fn facts_below(etc: &Path, uid: u32) -> EtcFacts {
    let mut secrets: Vec<PathBuf> = SECRETS
        .iter()
        .filter(|name| rustix::fs::statat(CWD, etc.join(name), AtFlags::SYMLINK_NOFOLLOW).is_ok())
        .map(PathBuf::from)
        .collect();
    if uid == 0 {
        let mut left = ENTRY_LIMIT;
        match CString::new(etc.as_os_str().as_bytes()) {
            Ok(name) => hidden_from_others(CWD, &name, Path::new(""), 0, &mut left, &mut secrets),
            Err(_) => secrets.push(PathBuf::new()),
        }
    }
    secrets.sort();
    secrets.dedup();
    // A hidden directory hides what is below it.
    let mut kept: Vec<PathBuf> = Vec::with_capacity(secrets.len());
    for path in secrets {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    EtcFacts {
        secrets: kept,
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    }
}

/// Collects entries of one directory and below that others may not read.
///
/// One of the costlier parts of a start: hence relative to descriptors, and one look at each entry.
fn hidden_from_others(
    parent: BorrowedFd<'_>,
    name: &CStr,
    relative: &Path,
    depth: usize,
    left: &mut usize,
    found: &mut Vec<PathBuf>,
) {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(parent, name, flags, Mode::empty()) else {
        // What cannot be listed cannot be judged.
        found.push(relative.to_owned());
        return;
    };
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut listing = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let Ok(entry) = entry else {
            found.push(relative.to_owned());
            return;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path = || relative.join(OsStr::from_bytes(name.to_bytes()));
        if *left == 0 || depth >= DEPTH_LIMIT {
            found.push(path());
            continue;
        }
        *left -= 1;
        // Links have no permissions of their own, and most entries of /etc are links to alternatives.
        if entry.file_type() == FileType::Symlink {
            continue;
        }
        let Ok(status) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Symlink => {}
            FileType::Directory if status.st_mode & 0o005 == 0o005 => {
                hidden_from_others(directory.as_fd(), name, &path(), depth + 1, left, found);
            }
            FileType::RegularFile if status.st_mode & 0o004 != 0 => {}
            _ => found.push(path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn root_sees_only_what_others_may_read() {
        let etc = std::env::temp_dir().join(format!("rcc-etc-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&etc);
        for directory in ["open", "closed", "sudoers.d"] {
            std::fs::create_dir_all(etc.join(directory)).unwrap();
        }
        let write = |name: &str, mode: u32| {
            std::fs::write(etc.join(name), "x").unwrap();
            std::fs::set_permissions(etc.join(name), std::fs::Permissions::from_mode(mode))
                .unwrap();
        };
        write("open/secret", 0o640);
        write("open/public", 0o644);
        write("closed/public", 0o644);
        write("sudoers.d/a", 0o600);
        write("shadow", 0o644);
        std::fs::set_permissions(etc.join("closed"), std::fs::Permissions::from_mode(0o750))
            .unwrap();

        let as_root = facts_below(&etc, 0).secrets;
        let as_user = facts_below(&etc, 1000).secrets;

        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            as_root,
            paths(&["closed", "open/secret", "shadow", "sudoers.d"])
        );
        assert_eq!(as_user, paths(&["shadow", "sudoers.d"]));
        std::fs::remove_dir_all(etc).unwrap();
    }
}
