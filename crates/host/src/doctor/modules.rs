//! SELinux and AppArmor: which of them is active, in which domain rcc runs, and what that means for it.
//!
//! Logic on what the kernel tells; whether a sandbox can be built is the trial's word, not this one's. Must not run
//! anything.

use super::{Check, Finding, Fix, Need, Status, read};

const CHECK: Check = Check {
    name: "security modules",
    need: Need::Optional,
    protects: "nothing of rcc's; where one of them is strict, it can forbid what rcc needs",
};

/// A profile for Ubuntu 23.10 and newer, where programs without one get no capabilities in user namespaces.
pub(super) const APPARMOR_PROFILE: &str = include_str!("apparmor-profile");
/// The program that the profile names.
const PROGRAM: &str = "/usr/local/bin/rcc";

/// What the kernel tells.
#[derive(Debug, Default)]
struct Told {
    /// Active modules, `/sys/kernel/security/lsm`.
    modules: String,
    /// `/sys/fs/selinux/enforce`: 1 enforcing, 0 permissive.
    enforce: Option<u64>,
    /// `/sys/module/apparmor/parameters/enabled`: `Y` or `N`.
    apparmor: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns`.
    restricts: Option<u64>,
    /// The domain of this process, `/proc/self/attr/current`: of SELinux `user:role:type:level`, of AppArmor `profile (mode)` or
    /// `unconfined`.
    domain: String,
}

/// Looks at the modules.
pub(super) fn finding() -> Finding {
    let number = |path: &str| read(path)?.trim().parse().ok();
    let text = |path: &str| read(path).unwrap_or_default();
    judge(&Told {
        modules: text("/sys/kernel/security/lsm"),
        enforce: number("/sys/fs/selinux/enforce"),
        apparmor: text("/sys/module/apparmor/parameters/enabled").trim() == "Y",
        restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        domain: text("/proc/self/attr/current"),
    })
}

fn judge(told: &Told) -> Finding {
    let active = |name: &str| told.modules.trim().split(',').any(|word| word == name);
    let domain = rcc_plan::escape(told.domain.trim_matches(['\0', '\n', ' '])).to_string();
    if told.enforce.is_some() || active("selinux") {
        return selinux(told.enforce, &domain);
    }
    if told.apparmor || active("apparmor") {
        return apparmor(told.restricts, &domain);
    }
    CHECK.ok("neither SELinux nor AppArmor is active")
}

/// rcc labels nothing: bind mounts keep the labels of their files, and processes stay in the caller's domain, whose rules
/// hold inside as they do outside.
fn selinux(enforce: Option<u64>, domain: &str) -> Finding {
    if enforce == Some(0) {
        return CHECK.ok(format!("SELinux is permissive; rcc runs as {domain}"));
    }
    let kind = domain.split(':').nth(2).unwrap_or_default();
    if kind.starts_with("unconfined_") {
        return CHECK.ok(format!("SELinux enforces; rcc runs as {domain}"));
    }
    CHECK.found(
        Status::Degraded,
        format!("SELinux enforces, and rcc runs as {domain}, whose rules can forbid user namespaces and mounts"),
        Some(Fix::new(
            "when a start is refused, look for what was denied; let an administrator allow that for this domain, or start rcc from an unconfined login",
            ["sudo ausearch -m avc,user_avc -ts recent -c rcc".to_owned()],
        )),
    )
}

fn apparmor(restricts: Option<u64>, domain: &str) -> Finding {
    match (restricts, domain) {
        (Some(1), "unconfined" | "") => CHECK.found(
            Status::Degraded,
            "AppArmor takes the capabilities in user namespaces away from programs without a profile, and rcc has none",
            Some(apparmor_profile()),
        ),
        (_, "unconfined" | "") => CHECK.ok("AppArmor is active and does not restrict rcc"),
        (_, domain) if domain.ends_with("(unconfined)") => {
            CHECK.ok(format!("AppArmor is active; rcc has the profile {domain}"))
        }
        (_, domain) => CHECK.found(
            Status::Degraded,
            format!("AppArmor holds rcc in the profile {domain}, which can forbid what a sandbox needs"),
            Some(Fix::new(
                "start rcc from a shell that has no profile, or look for what was denied",
                ["sudo journalctl -k --grep=apparmor".to_owned()],
            )),
        ),
    }
}

/// Ubuntu's restriction: an own profile for rcc is narrower than switching it off for every program.
pub(super) fn apparmor_profile() -> Fix {
    let program = std::env::current_exe().unwrap_or_default();
    let Some(profile) = profile_of(&program.to_string_lossy()) else {
        return Fix::new(
            "AppArmor takes the capabilities in user namespaces away from programs without a profile; rcc lies under a name that a profile cannot hold: move it first",
            [format!("sudo install rcc {PROGRAM}")],
        );
    };
    Fix::new(
        "AppArmor takes the capabilities in user namespaces away from programs without a profile; give rcc one. Whoever can write to that file gets the profile too: best have it in /usr/local/bin",
        [
            format!(
                "printf '%s\\n' {} | sudo tee /etc/apparmor.d/rcc",
                words(&profile)
            ),
            "sudo apparmor_parser --replace /etc/apparmor.d/rcc".to_owned(),
        ],
    )
}

/// The profile's lines as words of a shell; they hold no quotation mark of its kind.
fn words(profile: &str) -> String {
    let lines = profile.lines().filter(|line| !line.starts_with('#'));
    let words: Vec<String> = lines.map(|line| format!("'{line}'")).collect();
    words.join(" ")
}

/// The profile for a program; none when its path has characters that mean something in a profile (apparmor.d(5)).
fn profile_of(program: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@ ".contains(&byte);
    let is_plain = program.starts_with('/') && program.bytes().all(plain);
    is_plain.then(|| APPARMOR_PROFILE.replace(PROGRAM, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(modules: &str, domain: &str) -> Told {
        Told {
            modules: modules.to_owned(),
            domain: domain.to_owned(),
            ..Told::default()
        }
    }

    #[test]
    fn a_domain_that_is_confined_is_told() {
        let fedora = "lockdown,capability,landlock,yama,selinux,bpf\n";
        let ubuntu = "lockdown,capability,landlock,yama,apparmor\n";
        let unconfined = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0";
        let enforcing = |domain| Told {
            enforce: Some(1),
            ..told(fedora, domain)
        };
        let restricting = |domain| Told {
            apparmor: true,
            restricts: Some(1),
            ..told(ubuntu, domain)
        };
        let permissive = Told {
            enforce: Some(0),
            ..told(fedora, "user_u:user_r:user_t:s0")
        };
        for (told, status, word) in [
            (told("capability,landlock", ""), Status::Ok, "neither"),
            (enforcing(unconfined), Status::Ok, "unconfined_t"),
            (
                enforcing("user_u:user_r:user_t:s0\0"),
                Status::Degraded,
                "user_t",
            ),
            (permissive, Status::Ok, "permissive"),
            (
                told(ubuntu, "unconfined\n"),
                Status::Ok,
                "does not restrict",
            ),
            (restricting("unconfined\n"), Status::Degraded, "has none"),
            (
                restricting("rcc (unconfined)\n"),
                Status::Ok,
                "rcc (unconfined)",
            ),
            (
                restricting("snap.x.y (enforce)\n"),
                Status::Degraded,
                "snap.x.y",
            ),
        ] {
            let found = judge(&told);
            assert_eq!(found.status, status, "{told:?}");
            assert!(found.detail.contains(word), "{found:?}");
            assert_eq!(found.fix.is_some(), status != Status::Ok);
        }
    }

    #[test]
    fn the_profile_names_the_program_and_no_pattern() {
        assert!(APPARMOR_PROFILE.contains(PROGRAM) && APPARMOR_PROFILE.contains("\n  userns,\n"));
        let profile = profile_of("/home/ann/my tools/rcc").unwrap();
        assert!(profile.contains("profile rcc \"/home/ann/my tools/rcc\" flags=(unconfined) {"));
        let page = include_str!("../../../../docs/hosts.md");
        let rules = APPARMOR_PROFILE.split_once("abi ").unwrap().1;
        assert!(page.contains(rules), "the page shows the profile");
        // As a shell prints it, it is the profile without its comments.
        let script = format!("printf '%s\\n' {}", words(&profile));
        let printed = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let lines = profile.lines().filter(|line| !line.starts_with('#'));
        let expected: String = lines.map(|line| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), expected);
        for program in [
            "/x/*/rcc",
            "/x/{a,b}/rcc",
            "/x\"/rcc",
            "/x\n/rcc",
            "rcc",
            "",
            "/x (deleted)/[a]",
        ] {
            assert_eq!(profile_of(program), None, "{program:?}");
        }
    }
}
