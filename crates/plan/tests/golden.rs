//! L1: plans for made-up hosts, compared as a whole with checked-in files. `RCC_BLESS=1` writes them anew.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rcc_plan::{
    EntryKind, EtcFacts, FileIdentity, GroupFacts, HostFacts, MountStep, PathToolchain, PlanError,
    ProjectFacts, ProtectedEntry, Protection, Request, RootEntry, SeccompProfile, Streams, User,
    plan,
};
use rcc_spec::{LayerKind, Layers, Policy, SourceName, merge, parse_toml};

const HOME: &str = "/home/ann";

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}

/// A merged-usr distribution, an ordinary user, a project below `~/git`.
fn facts() -> HostFacts {
    let protected = |name: &str, kind| ProtectedEntry {
        path: path(name),
        kind,
    };
    HostFacts {
        user: User {
            uid: 1000,
            gid: 1000,
            name: "ann".to_owned(),
            shell: path("/bin/bash"),
        },
        home: path(HOME),
        agent_home: path("/home/ann/.local/share/rcc/homes/claude"),
        project: ProjectFacts {
            root: path("/home/ann/git/demo"),
            identity: FileIdentity {
                device: 2049,
                inode: 4711,
            },
            protected: vec![
                protected(".git/config", EntryKind::File),
                protected(".git/hooks", EntryKind::Directory),
                protected(".envrc", EntryKind::Symlink(path("elsewhere"))),
                protected("rcc.toml", EntryKind::File),
            ],
        },
        cwd: path("/home/ann/git/demo/src"),
        root_entries: vec![
            RootEntry {
                path: path("/usr"),
                kind: EntryKind::Directory,
            },
            RootEntry {
                path: path("/bin"),
                kind: EntryKind::Symlink(path("usr/bin")),
            },
            RootEntry {
                path: path("/opt"),
                kind: EntryKind::Directory,
            },
        ],
        etc: EtcFacts {
            secrets: vec![path("shadow"), path("ssh/ssh_host_ed25519_key")],
            hostname: "workstation".to_owned(),
        },
        sys_entries: vec![path("/sys/devices/system/cpu")],
        git_directory: Some(path("/home/ann/git")),
        toolchains: vec![PathToolchain {
            path: path("/home/ann/.rustup"),
            directory: true,
            env: vec![("RUSTUP_HOME".to_owned(), "/home/ann/.rustup".into())],
        }],
        path: vec![
            path("/home/ann/.rustup/bin"),
            path("/home/ann/bin"),
            path("/usr/bin"),
        ],
        environment: BTreeMap::from(
            [
                ("TERM", "xterm"),
                ("LC_ALL", "C.UTF-8"),
                ("SECRET", "hunter2"),
                ("SSH_AUTH_SOCK", "/run/x"),
                ("API_KEY", "k"),
            ]
            .map(|(name, value)| (name.into(), value.into())),
        ),
        resolved: BTreeMap::from([
            (
                path("~/data"),
                (path("/home/ann/data"), EntryKind::Directory),
            ),
            (
                path("notes.txt"),
                (path("/home/ann/git/demo/notes.txt"), EntryKind::File),
            ),
            (path("~/link"), (path("/proc"), EntryKind::Directory)),
            (path("~/up"), (path("/home"), EntryKind::Directory)),
            (path("/srv/pipe"), (path("/srv/pipe"), EntryKind::Other)),
            (path("/var/lib/x"), (path("/run/x"), EntryKind::Directory)),
        ]),
        cow_layer: None,
        rw_layers: BTreeMap::new(),
        hidden: Vec::new(),
        seccomp_profile: Some(r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["execve","read"],"action":"SCMP_ACT_ALLOW"}]}"#.to_owned()),
        landlock_abi: 6,
        kernel: (6, 12),
        addresses: Vec::new(),
        groups: GroupFacts {
            process_limit_binds: true,
            ..GroupFacts::default()
        },
        ipv6: true,
    }
}

fn request() -> Request {
    Request {
        run_id: "demo-abcd".to_owned(),
        argv: vec!["claude".into(), "-p".into()],
        streams: Streams::default(),
    }
}

fn policy(text: &str) -> Policy {
    let flags = parse_toml(
        &format!("version = 1\n{text}"),
        &SourceName::flag("--test"),
        LayerKind::User,
    )
    .unwrap();
    merge(Layers {
        flags,
        ..Layers::default()
    })
}

fn compare(name: &str, policy: &Policy, facts: &HostFacts) {
    let made = plan(policy, None, facts, &request()).unwrap();
    let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
    assert_eq!(
        serde_json::from_str::<rcc_plan::Plan>(&text).unwrap(),
        made,
        "the plan does not survive JSON"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("RCC_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    assert!(
        text == golden,
        "{name} differs; look at the difference, then RCC_BLESS=1\n{text}"
    );
}

#[test]
fn default_policy() {
    compare("default.json", &policy(""), &facts());
}

#[test]
fn every_setting() {
    let text = "[network]\nmode = 'none'\n[files]\nreadonly = ['notes.txt']\nrw = ['~/data']\nhidden = ['~/data']\n\
                [env]\npass = ['API_*']\nset = { EDITOR = 'true' }\n[limits]\ntmp_size = '64MiB'\n[hardening]\nseccomp = 'strict'\n";
    compare("every-setting.json", &policy(text), &facts());
}

#[test]
fn a_secret_of_the_callers_environment_is_not_in_any_plan() {
    let made = plan(&policy(""), None, &facts(), &request()).unwrap();
    let names: Vec<String> = made
        .environment
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert!(names.contains(&"TERM".to_owned()) && names.contains(&"LC_ALL".to_owned()));
    assert!(
        !names
            .iter()
            .any(|name| ["SECRET", "SSH_AUTH_SOCK", "API_KEY"].contains(&name.as_str())),
        "{names:?}"
    );
}

#[test]
fn what_would_undo_the_sandbox_is_refused() {
    for (setting, named, part) in [
        ("rw", "~/link", "belongs to the kernel"),
        ("readonly", "~/up", "contains the home directory"),
        ("rw", "/var/lib/x", "sockets of host services"),
    ] {
        let error = plan(
            &policy(&format!("[files]\n{setting} = ['{named}']")),
            None,
            &facts(),
            &request(),
        )
        .unwrap_err();
        assert!(
            matches!(&error, PlanError::PathForbidden { .. }) && error.to_string().contains(part),
            "{named}: {error}"
        );
    }
    let pipe = plan(
        &policy("[files]\nrw = ['/srv/pipe']"),
        None,
        &facts(),
        &request(),
    )
    .unwrap_err();
    assert!(matches!(pipe, PlanError::PathKind { .. }), "{pipe}");
    let missing = plan(
        &policy("[files]\nrw = ['/srv/nothing']"),
        None,
        &facts(),
        &request(),
    )
    .unwrap_err();
    assert!(
        matches!(missing, PlanError::PathMissing { .. }),
        "{missing}"
    );
}

#[test]
fn a_host_that_lacks_a_mechanism_is_refused() {
    let old = HostFacts {
        kernel: (5, 13),
        ..facts()
    };
    assert_eq!(
        plan(&policy(""), None, &old, &request()).unwrap_err(),
        PlanError::KernelTooOld {
            major: 5,
            minor: 13
        }
    );
    let bare = HostFacts {
        landlock_abi: 0,
        ..facts()
    };
    assert_eq!(
        plan(&policy(""), None, &bare, &request()).unwrap_err(),
        PlanError::LandlockMissing
    );
    let danger = plan(
        &policy("[hardening]\ndangerously_without_landlock = true"),
        None,
        &bare,
        &request(),
    )
    .unwrap();
    assert_eq!(danger.hardening.landlock_abi, 0);
    assert_eq!(danger.warnings.len(), 1, "{:?}", danger.warnings);
}

#[test]
fn every_ancestor_of_a_protected_path_is_a_mount_point() {
    let made = plan(&policy(""), None, &facts(), &request()).unwrap();
    let pins: Vec<String> = made
        .mounts
        .iter()
        .filter_map(|step| match step {
            MountStep::Pin { at, access } => Some(format!("{at} {access:?}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        pins,
        [
            "/home/ann/git/demo/.git ReadWrite",
            "/home/ann/git/demo/.git/config ReadOnly",
            "/home/ann/git/demo/.git/hooks ReadOnly",
            "/home/ann/git/demo/rcc.toml ReadOnly",
        ]
    );
    let off = plan(
        &policy("[hardening]\ndangerously_without_protected_paths = true"),
        None,
        &facts(),
        &request(),
    )
    .unwrap();
    assert!(
        !off.mounts
            .iter()
            .any(|step| matches!(step, MountStep::Pin { .. }))
    );
    assert_eq!(off.warnings.len(), 1);
}

#[test]
fn a_nul_byte_never_reaches_the_kernel() {
    let request = Request {
        argv: vec!["a\0b".into()],
        ..request()
    };
    let error = plan(&policy(""), None, &facts(), &request).unwrap_err();
    assert_eq!(
        error,
        PlanError::NulByte {
            what: "an argument of the command"
        }
    );
}

#[test]
fn an_own_profile_is_taken_from_outside_the_project_only() {
    let own = policy("[hardening]\nseccomp = { profile = '~/seccomp.json' }");
    let made = plan(&own, None, &facts(), &request()).unwrap();
    let allowed = ["execve", "read"].map(str::to_owned).into();
    assert_eq!(made.hardening.seccomp, SeccompProfile::Own { allowed });
    let absent = HostFacts {
        cow_layer: None,
        rw_layers: BTreeMap::new(),
        seccomp_profile: None,
        ..facts()
    };
    assert!(matches!(
        plan(&own, None, &absent, &request()),
        Err(PlanError::PathMissing { .. })
    ));
    let inside = policy("[hardening]\nseccomp = { profile = 'seccomp.json' }");
    let error = plan(&inside, None, &facts(), &request()).unwrap_err();
    assert!(
        error.to_string().contains("could be changed by the agent"),
        "{error}"
    );
}

/// Everything that the host can uncover by replacing a file, and nothing of the sandbox's own file systems.
#[test]
fn what_the_host_could_uncover_is_guarded() {
    let guarded = plan(&policy(""), None, &facts(), &request())
        .unwrap()
        .guarded();
    let found: Vec<(&Path, Protection)> = guarded
        .iter()
        .filter(|guarded| !guarded.at.as_path().starts_with("/etc"))
        .map(|guarded| (guarded.at.as_path(), guarded.protection))
        .collect();
    assert_eq!(
        found,
        [
            (Path::new("/home/ann/git/demo/.git"), Protection::Pinned),
            (
                Path::new("/home/ann/git/demo/.git/config"),
                Protection::Closed
            ),
            (
                Path::new("/home/ann/git/demo/.git/hooks"),
                Protection::Closed
            ),
            (Path::new("/home/ann/git/demo/rcc.toml"), Protection::Closed),
        ]
    );
    assert!(guarded.iter().all(|guarded| guarded.host == guarded.at));
}
