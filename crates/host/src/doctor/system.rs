//! What kind of system this is, as far as the advice depends on it.
//!
//! Must not influence any decision about protection: everything here can be forged by whoever made the system.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::{Fix, read};

/// Families of distributions whose advice differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Debian and what derives from it, Ubuntu too.
    Debian,
    /// Fedora, RHEL and their relatives.
    Fedora,
    /// Arch Linux and its relatives.
    Arch,
    /// NixOS.
    NixOs,
    /// openSUSE, SLES.
    Suse,
    /// Alpine Linux.
    Alpine,
    /// Anything else.
    Other,
}

/// What rcc itself runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// A Docker container.
    Docker,
    /// A Podman container.
    Podman,
    /// A pod of Kubernetes.
    Kubernetes,
    /// LXC, LXD or Incus.
    Lxc,
    /// Another kind of container.
    Other,
}

/// The system that the advice is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System {
    /// Which family.
    pub distribution: Distribution,
    /// The container around rcc, if there is one.
    pub container: Option<Container>,
    /// The Windows Subsystem for Linux, and which version of it.
    pub wsl: Option<u8>,
    /// The root directory is not the root of the mount namespace (chroot(2)), where the kernel forbids user namespaces.
    pub chroot: bool,
}

impl System {
    /// Looks at this system.
    #[must_use]
    pub fn look(environment: &BTreeMap<OsString, OsString>) -> Self {
        let os_release = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"));
        Self {
            distribution: distribution(&os_release.unwrap_or_default()),
            container: container(environment),
            wsl: wsl(&rustix::system::uname().release().to_string_lossy()),
            chroot: read("/proc/self/mountinfo").is_some_and(|table| !has_root_mount(&table)),
        }
    }

    /// How to set a kernel setting now and for every later start.
    pub(super) fn set(&self, why: &str, key: &str, value: &str) -> Fix {
        if self.container.is_some() {
            return Fix::new(
                format!("{why}; it can only be changed on the host of this container"),
                [format!("sudo sysctl -w {key}={value}")],
            );
        }
        if self.distribution == Distribution::NixOs {
            return Fix::new(
                format!("{why}; set boot.kernel.sysctl.\"{key}\" = {value}; in configuration.nix"),
                ["sudo nixos-rebuild switch".to_owned()],
            );
        }
        Fix::new(
            why,
            [
                format!("echo '{key} = {value}' | sudo tee /etc/sysctl.d/90-rcc.conf"),
                "sudo sysctl --system".to_owned(),
            ],
        )
    }

    /// How to install a package that has the same name everywhere but in the list of exceptions.
    pub(super) fn install(&self, package: &str) -> Vec<String> {
        let command = match self.distribution {
            Distribution::Debian => format!("sudo apt-get install {package}"),
            Distribution::Fedora => format!("sudo dnf install {package}"),
            Distribution::Arch => format!("sudo pacman -S {package}"),
            Distribution::NixOs => format!("nix profile install nixpkgs#{package}"),
            Distribution::Suse => format!("sudo zypper install {package}"),
            Distribution::Alpine => format!("sudo apk add {package}"),
            Distribution::Other => return Vec::new(),
        };
        vec![command]
    }
}

/// Reads os-release(5): the own id first, then what it is like.
fn distribution(text: &str) -> Distribution {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    let names = format!("{} {}", value("ID"), value("ID_LIKE"));
    names
        .split_ascii_whitespace()
        .find_map(|name| match name {
            "debian" | "ubuntu" => Some(Distribution::Debian),
            "fedora" | "rhel" | "centos" => Some(Distribution::Fedora),
            "arch" => Some(Distribution::Arch),
            "nixos" => Some(Distribution::NixOs),
            "suse" | "opensuse" => Some(Distribution::Suse),
            "alpine" => Some(Distribution::Alpine),
            _ => None,
        })
        .unwrap_or(Distribution::Other)
}

/// The marks that container engines leave; systemd writes the name of the others (`systemd-detect-virt(1)`).
fn container(environment: &BTreeMap<OsString, OsString>) -> Option<Container> {
    let exists = |path: &str| std::fs::symlink_metadata(path).is_ok();
    if environment.contains_key(OsStr::new("KUBERNETES_SERVICE_HOST")) {
        return Some(Container::Kubernetes);
    }
    if exists("/.dockerenv") {
        return Some(Container::Docker);
    }
    if exists("/run/.containerenv") {
        return Some(Container::Podman);
    }
    if exists("/dev/lxd/sock") || exists("/dev/incus/sock") || exists("/dev/.lxc-boot-id") {
        return Some(Container::Lxc);
    }
    match read("/run/systemd/container")?.trim() {
        "docker" => Some(Container::Docker),
        "podman" => Some(Container::Podman),
        "lxc" | "lxc-libvirt" => Some(Container::Lxc),
        "" => None,
        "wsl" => None,
        _ => Some(Container::Other),
    }
}

/// The kernel of WSL names itself: `4.4.0-19041-Microsoft` is the first version, `…-microsoft-standard-WSL2` the second.
fn wsl(release: &str) -> Option<u8> {
    if release.contains("WSL2") || release.contains("microsoft-standard") {
        Some(2)
    } else if release.contains("Microsoft") {
        Some(1)
    } else {
        None
    }
}

/// Whether mountinfo(5) shows a mount at the root directory; below chroot(2) it shows none.
fn has_root_mount(mountinfo: &str) -> bool {
    mountinfo
        .lines()
        .any(|line| line.split(' ').nth(4) == Some("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(distribution: Distribution, container: Option<Container>) -> System {
        System {
            distribution,
            container,
            wsl: None,
            chroot: false,
        }
    }

    #[test]
    fn relatives_get_the_advice_of_their_family() {
        for (text, expected) in [
            ("ID=debian\n", Distribution::Debian),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Distribution::Debian,
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            ("ID=manjaro\nID_LIKE=arch\n", Distribution::Arch),
            ("ID=nixos\n", Distribution::NixOs),
            (
                "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
                Distribution::Suse,
            ),
            ("ID=alpine\n", Distribution::Alpine),
            ("VERSION_ID=1\nID=void\n", Distribution::Other),
            ("", Distribution::Other),
        ] {
            assert_eq!(distribution(text), expected, "{text:?}");
        }
    }

    #[test]
    fn both_versions_of_wsl_are_told_apart() {
        assert_eq!(wsl("4.4.0-19041-Microsoft"), Some(1));
        assert_eq!(wsl("5.15.167.4-microsoft-standard-WSL2"), Some(2));
        assert_eq!(wsl("6.12.1-amd64"), None);
    }

    #[test]
    fn a_chroot_has_no_mount_at_its_root() {
        let whole = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n";
        assert!(has_root_mount(whole));
        assert!(!has_root_mount("23 22 0:5 / /proc rw - proc proc rw\n"));
    }

    #[test]
    fn a_setting_is_changed_where_the_system_keeps_it() {
        let key = "user.max_user_namespaces";
        let debian = system(Distribution::Debian, None).set("why", key, "1");
        assert_eq!(
            debian.commands,
            [
                "echo 'user.max_user_namespaces = 1' | sudo tee /etc/sysctl.d/90-rcc.conf",
                "sudo sysctl --system"
            ]
        );
        let nixos = system(Distribution::NixOs, None).set("why", key, "1");
        assert_eq!(
            nixos.text,
            "why; set boot.kernel.sysctl.\"user.max_user_namespaces\" = 1; in configuration.nix"
        );
        let docker = system(Distribution::Debian, Some(Container::Docker)).set("why", key, "1");
        assert_eq!(
            docker.commands,
            ["sudo sysctl -w user.max_user_namespaces=1"]
        );
    }
}
