//! `rcc apply` and `rcc undo` with the real program: what the agent left arrives, what was there comes back to the last
//! bit, what the user did meanwhile is never lost, and nothing is written outside of the project.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bench::{Bench, snapshot};
use rustix::fs::{XattrFlags, getxattr, setxattr};

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

/// One entry of every kind, with times of long ago.
fn project(bench: &Bench) {
    for name in [
        "kept",
        "linked",
        "removed",
        "gone/a",
        "gone/deep/b",
        "mode",
        "to-directory",
        "holder/x",
        "again/old",
        "again/same",
    ] {
        bench.file(name, format!("{name} of the user\n"));
    }
    std::fs::hard_link(
        bench.project().join("linked"),
        bench.project().join("other-name"),
    )
    .unwrap();
    symlink("kept", bench.project().join("link")).unwrap();
    symlink("kept", bench.project().join("link-removed")).unwrap();
    setxattr(
        bench.project().join("kept"),
        "user.rcc-test",
        b"of the user",
        XattrFlags::empty(),
    )
    .unwrap();
    setxattr(
        bench.project().join("gone"),
        "user.rcc-test",
        b"of the directory",
        XattrFlags::empty(),
    )
    .unwrap();
    std::fs::set_permissions(
        bench.project().join("gone/a"),
        std::fs::Permissions::from_mode(0o751),
    )
    .unwrap();
    let touch = "find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +";
    assert_eq!(bench.host("sh", &["-c", touch]).code, 0);
}

/// Changes all of it.
const WORK: &str = "set -e
echo more >> kept; echo more >> linked; rm removed link-removed; rm -r gone; chmod 700 mode
rm to-directory; mkdir to-directory; echo x > to-directory/in; rm -r holder; echo x > holder; rm -r again; mkdir again; echo 'again/same of the user' > again/same
ln -sfn /etc/passwd link; mkdir -p new/deep; echo x > new/deep/file; chmod 750 new; : > empty; truncate -s 3M sparse; chmod 711 again; touch -d 2002-02-02 new/deep/file new/deep";

#[test]
fn an_apply_gives_what_the_agent_left_and_undo_what_was_there() {
    let bench = Bench::new("round");
    project(&bench);
    let before = snapshot(&bench.project());
    assert_eq!(bench.cow(WORK).code, 0);
    assert_eq!(snapshot(&bench.project()), before);

    for _ in 0..2 {
        let applied = bench.rcc(&["apply"]);
        assert_eq!(applied.code, 0, "{applied:?}");
        assert!(
            applied.stderr.contains("rcc undo takes them back"),
            "{applied:?}"
        );
        assert_eq!(bench.text("kept"), "kept of the user\nmore\n");
        assert_eq!(bench.text("to-directory/in"), "x\n");
        assert_eq!(bench.text("holder"), "x\n");
        assert_eq!(bench.text("other-name"), "linked of the user\n");
        assert!(
            !bench.project().join("gone").exists() && !bench.project().join("again/old").exists()
        );
        let mode = |name: &str| {
            bench
                .project()
                .join(name)
                .metadata()
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(
            (mode("mode"), mode("new"), mode("again")),
            (0o700, 0o750, 0o711)
        );
        let time = |name: &str| {
            bench
                .project()
                .join(name)
                .metadata()
                .unwrap()
                .modified()
                .unwrap()
        };
        assert_eq!(time("new/deep/file"), time("new/deep"));
        // The layer and the project are one now.
        let layer = bench.all_layers().pop().unwrap();
        let id = layer
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(bench.rcc(&["diff", &id, "--name-status"]).stdout, "");

        let undone = bench.rcc(&["undo"]);
        assert_eq!(undone.code, 0, "{undone:?}");
        let after = snapshot(&bench.project());
        assert_eq!(after, before);
        let mut value = [0_u8; 64];
        let length = getxattr(bench.project().join("kept"), "user.rcc-test", &mut value).unwrap();
        assert_eq!(&value[..length], b"of the user");
        let length = getxattr(bench.project().join("gone"), "user.rcc-test", &mut value).unwrap();
        assert_eq!(&value[..length], b"of the directory");
    }
    let nothing = bench.rcc(&["undo"]);
    assert_eq!(nothing.code, 125, "{nothing:?}");
    assert!(
        nothing.stderr.contains("nothing was applied"),
        "{nothing:?}"
    );
}

#[test]
fn a_part_is_applied_by_its_path() {
    let bench = Bench::new("part");
    project(&bench);
    assert_eq!(bench.cow(WORK).code, 0);
    let before = snapshot(&bench.project());
    let applied = bench.rcc(&["apply", "new/deep/file", "kept"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(bench.text("kept"), "kept of the user\nmore\n");
    assert_eq!(bench.text("new/deep/file"), "x\n");
    assert!(bench.project().join("removed").exists() && bench.project().join("gone/a").exists());
    // The run goes on from there, and what was applied is no edit of the user's.
    let id = bench
        .rcc(&["diff", "--list"])
        .stdout
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        bench
            .rcc(&[
                "--continue",
                &id,
                "run",
                "-n",
                "--",
                "sh",
                "-c",
                "echo again >> kept"
            ])
            .code,
        0
    );
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(bench.text("kept"), "kept of the user\nmore\nagain\n");
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(bench.text("kept"), "kept of the user\nmore\n");
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(snapshot(&bench.project()), before);
    let outside = bench.rcc(&["apply", "../home"]);
    assert_eq!(outside.code, 125, "{outside:?}");
}

#[test]
fn what_the_user_did_meanwhile_is_never_overwritten() {
    for (name, agent, user, conflict) in [
        ("both", "echo agent > a", "echo user > a", "a"),
        ("gone", "rm a", "echo user > a", "a"),
        ("new", "echo agent > n", "echo user > n", "n"),
        (
            "renamed",
            "echo agent > t; mv t a",
            "echo user > t; mv t a",
            "a",
        ),
        ("in-removed", "rm -r d", "echo user > d/x", "d/x"),
        (
            "made",
            "mkdir m; echo agent > m/f",
            "mkdir m; mv o m/f",
            "m/f",
        ),
        ("mode", "chmod 700 a", "echo user >> a", "a"),
        ("linked", "echo agent > a", "ln -sf b a", "a"),
        ("times", "touch -d 2001-01-01 a", "echo user >> a", "a"),
        ("both-times", "touch -d 2001-01-01 a", "touch a", "a"),
        (
            "attributes",
            "cp --attributes-only --preserve=xattr o a",
            "echo user >> a",
            "a",
        ),
        (
            "directory",
            "cp -r --preserve=xattr with/. d",
            "chmod 700 d",
            "d",
        ),
    ] {
        let bench = Bench::new(&format!("meanwhile-{name}"));
        for file in ["a", "b", "d/x", "o"] {
            bench.file(file, "1\n");
        }
        std::fs::create_dir(bench.project().join("with")).unwrap();
        for file in ["o", "with"] {
            let path = bench.project().join(file);
            setxattr(path, "user.rcc-test", b"agent", XattrFlags::empty()).unwrap();
        }
        assert_eq!(
            bench.cow(&format!("echo agent > b; {agent}")).code,
            0,
            "{name}"
        );
        assert_eq!(bench.host("sh", &["-c", user]).code, 0);
        let before = snapshot(&bench.project());
        let applied = bench.rcc(&["apply"]);
        assert_eq!(applied.code, 1, "{name}: {applied:?}");
        assert!(
            applied.stderr.contains(&format!("conflict: {conflict} ")),
            "{name}: {applied:?}"
        );
        assert_eq!(snapshot(&bench.project()), before, "{name}");
        // Positive controls: what does not conflict can be applied, and the user can give in.
        assert_eq!(bench.rcc(&["apply", "b"]).code, 0);
        assert_eq!(bench.text("b"), "agent\n");
        assert_eq!(bench.rcc(&["undo"]).code, 0);
        let applied = bench.rcc(&["apply", "--overwrite", conflict]);
        assert_eq!(applied.code, 0, "{name}: {applied:?}");
        assert_ne!(snapshot(&bench.project()), before, "{name}");
        assert_eq!(bench.rcc(&["undo"]).code, 0, "{name}");
        assert_eq!(snapshot(&bench.project()), before, "{name}");
    }
}

#[test]
fn a_file_that_the_user_puts_into_a_removed_directory_stays() {
    let bench = Bench::new("stays");
    bench.file("d/x", "1\n");
    assert_eq!(bench.cow("rm -r d").code, 0);
    bench.file("d/mine", "user\n");
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 1, "{applied:?}");
    assert_eq!(bench.text("d/mine"), "user\n");
}

#[test]
fn undo_leaves_alone_what_changed_since() {
    let bench = Bench::new("since");
    for name in ["a", "b", "c"] {
        bench.file(name, "1\n");
    }
    assert_eq!(
        bench
            .cow("echo 2 | tee a b > /dev/null; rm c; mkdir n; echo x > n/x")
            .code,
        0
    );
    assert_eq!(bench.rcc(&["apply"]).code, 0);
    bench.file("a", "user\n");
    bench.file("n/mine", "user\n");
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 1, "{undone:?}");
    for name in ["a", "n"] {
        assert!(
            undone
                .stderr
                .contains(&format!("left alone: {name} was changed")),
            "{undone:?}"
        );
    }
    assert_eq!(
        (bench.text("a"), bench.text("b"), bench.text("c")),
        ("user\n".into(), "1\n".into(), "1\n".into())
    );
    assert_eq!(bench.text("n/mine"), "user\n");
    assert!(!bench.project().join("n/x").exists());
}

#[test]
fn what_the_host_would_run_is_held_back_until_it_is_named() {
    let bench = Bench::new("held");
    bench.file("a", "1\n");
    let output = bench.cow(
        "set -e; echo 2 > a; echo evil > .envrc; mkdir -p sub/.vscode sub/.git/hooks .git/hooks bare/objects bare/hooks
         echo evil | tee sub/.vscode/tasks.json sub/.git/hooks/pre-commit .git/hooks/pre-commit bare/config bare/hooks/x .git/config > /dev/null
         echo 'ref: refs/heads/main' | tee bare/HEAD .git/HEAD > /dev/null; echo 'gitdir: bare' > .GIT; mkdir w; echo 'gitdir: ../bare' > w/.git",
    );
    assert_eq!(output.code, 0, "{output:?}");
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(bench.text("a"), "2\n");
    let exists = |name: &str| bench.project().join(name).symlink_metadata().is_ok();
    let guarded = [
        ".envrc",
        "sub/.vscode/tasks.json",
        "sub/.git/hooks/pre-commit",
        ".git/hooks/pre-commit",
        ".git/config",
        "bare/config",
        "bare/hooks/x",
        "w/.git",
    ];
    for name in guarded {
        assert!(!exists(name), "{name}: {applied:?}");
    }
    assert!(
        applied
            .stderr
            .contains("held back: .envrc (your programs run or obey it; name it to apply it)"),
        "{applied:?}"
    );
    assert!(exists("bare/HEAD") && exists(".git/HEAD"), "{applied:?}");
    assert_eq!(
        bench
            .rcc(&["apply", ".envrc", "sub/.git", "bare/config"])
            .code,
        0
    );
    assert!(exists(".envrc") && exists("sub/.git/hooks/pre-commit") && exists("bare/config"));
    assert!(!exists("bare/hooks/x") && !exists(".git/config"));
}

/// No single run leaves anything that git would obey, but the second one completes what the first one began.
#[test]
fn what_makes_earlier_files_a_repository_is_held_back() {
    for (first, last) in [
        ("config objects/x refs/x", "HEAD"),
        ("config HEAD refs/x", "objects/x"),
        ("hooks/pre-commit HEAD", "commondir"),
    ] {
        let bench = Bench::new(&format!("later-{}", last.replace('/', "-")));
        bench.file("a", "1\n");
        let make = |names: &str| {
            format!(
                "set -e; for i in {names}; do mkdir -p $(dirname bare/$i); echo x > bare/$i; done"
            )
        };
        for (names, arrives) in [(first, true), (last, false)] {
            assert_eq!(bench.cow(&make(names)).code, 0, "{names}");
            let applied = bench.rcc(&["apply"]);
            assert_eq!(applied.code, 0, "{names}: {applied:?}");
            for name in names.split(' ') {
                let is = bench.project().join("bare").join(name).exists();
                assert_eq!(is, arrives, "{name}: {applied:?}");
            }
        }
        // Positive control: named, it arrives.
        let top = last.split('/').next().unwrap();
        let named = bench.rcc(&["apply", &format!("bare/{top}")]);
        assert_eq!(named.code, 0, "{named:?}");
        assert!(
            bench.project().join("bare").join(last).exists(),
            "{named:?}"
        );
    }
}

#[test]
fn special_files_and_borrowed_rights_are_never_applied() {
    let bench = Bench::new("special");
    bench.file("a", "1\n");
    let output = bench.cow(
        "set -e; mkfifo fifo; rm a; mkfifo a; echo x > tool; chmod 6755 tool; mkdir shared; chmod 2777 shared; echo x > closed; chmod 0 closed
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' 2>/dev/null || true",
    );
    assert_eq!(output.code, 0, "{output:?}");
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(
        applied
            .stderr
            .contains("held back: fifo (a FIFO, socket or device, which is never applied)"),
        "{applied:?}"
    );
    assert!(
        applied
            .stderr
            .contains("without its set-user-id or set-group-id bit: tool"),
        "{applied:?}"
    );
    assert_eq!(bench.text("a"), "1\n");
    let exists = |name: &str| bench.project().join(name).symlink_metadata().is_ok();
    assert!(!exists("fifo") && !exists("sock"));
    let mode = |name: &str| {
        bench
            .project()
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("tool"), mode("shared") & 0o6000), (0o755, 0));
}

/// A directory of the user's that is closed to writing lets nothing in; what else there is, is applied.
#[test]
fn what_is_in_a_read_only_directory_is_held_back_and_waits() {
    let bench = Bench::new("read-only");
    for name in ["ro/a", "ro/b", "ro/sub/c", "gone/ro/x", "top", "mode/y"] {
        bench.file(name, "1\n");
    }
    let closed = ["ro", "ro/sub", "gone/ro"];
    let close = |mode: u32| {
        for name in closed {
            let path = bench.project().join(name);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    close(0o555);
    let mode = bench.project().join("mode");
    std::fs::set_permissions(mode, std::fs::Permissions::from_mode(0o555)).unwrap();
    let before = snapshot(&bench.project());
    let output = bench.cow(
        "set -e; chmod u+w ro ro/sub gone/ro; echo 2 > ro/a; rm ro/b; echo 2 > ro/new; echo 2 > ro/sub/c; rm -r gone; echo 2 > top; chmod 600 mode/y; chmod 555 ro ro/sub",
    );
    assert_eq!(output.code, 0, "{output:?}");
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(bench.text("top"), "2\n");
    if rustix::process::geteuid().is_root() {
        assert_eq!(bench.text("ro/sub/c"), "2\n");
    } else {
        for name in ["ro/a", "ro/b", "ro/new", "ro/sub/c"] {
            let held =
                format!("held back: {name} (the directory that it is in is closed to writing");
            assert!(applied.stderr.contains(&held), "{name}: {applied:?}");
        }
        assert_eq!(bench.text("ro/a"), "1\n");
        assert_eq!(bench.text("gone/ro/x"), "1\n");
        assert_eq!(bench.layers(), 1);
        close(0o755);
        let again = bench.rcc(&["apply", "ro/a", "ro/b", "ro/new", "ro/sub/c", "gone"]);
        assert_eq!(
            (again.code, again.stderr.contains("held back")),
            (0, false),
            "{again:?}"
        );
        assert_eq!(bench.text("ro/sub/c"), "2\n");
        assert!(!bench.project().join("gone").exists());
        assert_eq!(bench.rcc(&["undo"]).code, 0);
    }
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    assert_eq!(bench.text("top"), "1\n");
    let names = |tree: &std::collections::BTreeMap<std::path::PathBuf, String>| {
        tree.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&snapshot(&bench.project())), names(&before));
}

/// An agent cannot keep its user from the other changes with a directory whose names can be read and nothing else.
#[test]
fn a_directory_that_cannot_be_searched_does_not_stop_diff_or_apply() {
    let bench = Bench::new("search");
    bench.file("x/f", "1\n");
    bench.file("plain", "1\n");
    let output =
        bench.cow("echo 2 > x/f; chmod 600 x; mkdir y; echo 1 > y/g; chmod 600 y; echo 2 > plain");
    assert_eq!(output.code, 0, "{output:?}");
    let shown = bench.rcc(&["diff", "--name-status"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("M\tplain\n"), "{shown:?}");
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(bench.text("plain"), "2\n");
    if !rustix::process::geteuid().is_root() {
        assert!(
            applied.stderr.contains("held back: x (it cannot be read)"),
            "{applied:?}"
        );
        assert!(
            applied.stderr.contains("held back: y (it cannot be read)"),
            "{applied:?}"
        );
        assert_eq!(bench.text("x/f"), "1\n");
        assert_eq!(bench.layers(), 1);
    }
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(bench.text("plain"), "1\n");
}

/// Everything that would make a careless writer follow, wait, fill the disk, lose its way or print what it is told to.
const HOSTILE: &str = r#"set -e
ln -s / out; ln -s ../../outside/kept up; ln -s loop loop; rm victim; ln -s ../outside/kept victim; rm -r dir; ln -s ../outside dir
truncate -s 100G sparse; printf end >> sparse; touch "$(printf '%0255d' 7)" "$(printf 'bad\377name')" "$(printf 'a\nb\033[31m')"
mkfifo "$(printf 'fifo\n\033[2J')"; echo x > "$(printf '\033]0;suid')"; chmod 6755 *suid; echo x > tool
top=$PWD; part=$(printf 'd/%.0s' $(seq 500)); for i in $(seq 8); do mkdir -p $part; cd $part; done; echo deep > deep; cd "$top"
name=$(printf '%060d' 0); part=$(printf "$name/%.0s" $(seq 60)); for i in $(seq 2); do mkdir -p $part; cd $part; done; echo long > long; cd "$top"
mknod null c 1 3 2>/dev/null && exit 3; mknod block b 8 0 2>/dev/null && exit 4; true"#;

#[test]
fn a_hostile_tree_is_applied_inside_the_project_and_undone() {
    let bench = Bench::new("hostile");
    bench.file("victim", "user\n");
    bench.file("dir/kept", "user\n");
    let outside = bench.base().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "outside\n").unwrap();
    let (before, around) = (snapshot(&bench.project()), snapshot(&outside));
    let output = bench.cow(HOSTILE);
    assert_eq!(output.code, 0, "{output:?}");
    // What no agent can make, but a hole in the kernel might let it: rcc's part is to leave it where it is.
    let upper = bench.only_layer().join("upper");
    let above = std::fs::File::open(&upper).unwrap();
    let make =
        |name: &str, kind, device| rustix::fs::mknodat(&above, name, kind, 0o666.into(), device);
    make("socket", rustix::fs::FileType::Socket, 0).unwrap();
    let device = make(
        "zero",
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::makedev(1, 5),
    );
    // `cap_setuid+ep` (linux/capability.h, version 2).
    let capability = [
        1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let capable = setxattr(
        upper.join("tool"),
        "security.capability",
        &capability,
        XattrFlags::empty(),
    );
    let root = rustix::process::geteuid().is_root();
    assert_eq!((device.is_ok(), capable.is_ok()), (root, root));

    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    assert!(!applied.stderr.contains('\u{1b}'), "{}", applied.stderr);
    assert!(
        applied
            .stderr
            .contains("held back: socket (a FIFO, socket or device"),
        "{}",
        applied.stderr
    );
    assert_eq!(applied.stderr.contains("held back: zero (a FIFO"), root);
    assert_eq!(snapshot(&outside), around);
    let data = |name: &str| bench.project().join(name).symlink_metadata().unwrap();
    for name in ["out", "up", "loop", "victim", "dir"] {
        assert!(data(name).is_symlink(), "{name}");
    }
    let sparse = data("sparse");
    assert_eq!(sparse.len(), (100 << 30) + 3);
    assert!(
        std::os::unix::fs::MetadataExt::blocks(&sparse) < 1000,
        "{sparse:?}"
    );
    let mut value = [0_u8; 64];
    let found = getxattr(
        bench.project().join("tool"),
        "security.capability",
        &mut value,
    );
    assert_eq!(found, Err(rustix::io::Errno::NODATA));
    // 4,000 levels, and a path of long names that no call takes.
    let deep = "part=$(printf 'd/%.0s' $(seq 500)); for i in $(seq 8); do cd $part; done; cat deep";
    assert_eq!(bench.host("bash", &["-c", deep]).stdout, "deep\n");
    let long = "part=$(printf \"$(printf '%060d' 0)/%.0s\" $(seq 60)); for i in $(seq 2); do cd $part; done; cat long";
    assert_eq!(bench.host("bash", &["-c", long]).stdout, "long\n");
    assert_eq!(
        data(std::str::from_utf8(b"\x1b]0;suid").unwrap())
            .permissions()
            .mode()
            & 0o7777,
        0o755
    );

    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 0, "{}", undone.stderr);
    assert_eq!(snapshot(&bench.project()), before);
    assert_eq!(snapshot(&outside), around);
}

/// Another run in the same project exchanges a directory with a link to elsewhere, as fast as it can.
#[test]
fn no_exchange_of_a_directory_with_a_link_leads_an_apply_outside() {
    let bench = Bench::new("swap");
    for number in 0..12 {
        bench.file(&format!("d/{number}"), "1\n");
    }
    let outside = bench.base().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for number in 0..12 {
        std::fs::write(outside.join(number.to_string()), "a secret\n").unwrap();
    }
    let (real, link) = (bench.project().join("d"), bench.project().join("l"));
    // Positive control: with the link in place, a careless write lands outside.
    std::fs::rename(&real, bench.project().join("d2")).unwrap();
    symlink(&outside, &real).unwrap();
    std::fs::write(real.join("control"), "x").unwrap();
    assert!(outside.join("control").exists());
    std::fs::remove_file(outside.join("control")).unwrap();
    std::fs::remove_file(&real).unwrap();
    std::fs::rename(bench.project().join("d2"), &real).unwrap();

    let before = snapshot(&outside);
    assert_eq!(
        bench
            .cow("for i in d/*; do echo agent > $i; done; rm d/7; echo n > d/new; chmod 700 d/9")
            .code,
        0
    );
    symlink(&outside, &link).unwrap();
    let (stop, swaps, applies) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, link) = (
                std::fs::File::open(bench.project()).unwrap(),
                link.file_name().unwrap(),
            );
            while !stop.load(Ordering::Relaxed) {
                // Both names always exist; an even number of exchanges leaves them as they were.
                for _ in 0..2 {
                    rustix::fs::renameat_with(
                        &real,
                        "d",
                        &real,
                        link,
                        rustix::fs::RenameFlags::EXCHANGE,
                    )
                    .unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while swaps.load(Ordering::Relaxed) < 10_000 || applies.load(Ordering::Relaxed) < 8 {
            let shown = bench.rcc(&["diff"]);
            assert!([0, 125].contains(&shown.code), "{shown:?}");
            assert!(!shown.stdout.contains("a secret"), "{shown:?}");
            let applied = bench.rcc(&["apply", "--overwrite", "d"]);
            assert!([0, 1, 125].contains(&applied.code), "{applied:?}");
            assert!(!applied.stderr.contains("panicked"), "{applied:?}");
            let undone = bench.rcc(&["undo"]);
            assert!([0, 1, 125].contains(&undone.code), "{undone:?}");
            applies.fetch_add(1, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn one_command_at_a_time_changes_a_project() {
    let bench = Bench::new("alone");
    bench.file("a", "1\n");
    assert_eq!(bench.cow("echo 2 > a").code, 0);
    assert_eq!(bench.rcc(&["apply"]).code, 0);
    let lock = std::fs::read_dir(bench.state().join("rcc/locks"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let held = std::fs::File::open(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 125, "{undone:?}");
    assert!(
        undone.stderr.contains("another rcc apply or rcc undo"),
        "{undone:?}"
    );
    assert_eq!(bench.text("a"), "2\n");
    drop(held);
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(bench.text("a"), "1\n");
}

#[test]
fn the_changes_of_a_run_under_way_are_shown_and_not_applied() {
    let bench = Bench::new("live");
    bench.file("a", "1\n");
    let mut run = bench
        .command(bench::program())
        .args([
            "run",
            "-n",
            "--cow",
            "--",
            "bash",
            "-c",
            "echo 2 > a; echo ready; read x",
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(run.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_eq!(bench.rcc(&["diff", "--name-status"]).stdout, "M\ta\n");
    for command in ["apply", "discard"] {
        let refused = bench.rcc(&[command]);
        assert_eq!(refused.code, 125, "{refused:?}");
        assert!(refused.stderr.contains("is still under way"), "{refused:?}");
    }
    assert_eq!(bench.text("a"), "1\n");
    drop(run.stdin.take());
    run.wait().unwrap();
    assert_eq!(bench.rcc(&["apply"]).code, 0);
    assert_eq!(bench.text("a"), "2\n");
}

/// The layer of a run whose agent closed the project's own directory is not taken for one that holds nothing.
#[test]
fn a_closed_top_hides_no_changes() {
    for mode in ["000", "400", "100"] {
        let bench = Bench::new(&format!("closed-top-{mode}"));
        bench.file("a", "1\n");
        assert_eq!(bench.cow(&format!("echo 2 > a; chmod {mode} .")).code, 0);
        assert_eq!(bench.rcc(&["diff", "--name-status"]).stdout, "M\ta\n");
        assert_eq!(bench.rcc(&["apply"]).code, 0);
        assert_eq!(bench.text("a"), "2\n");
        assert_eq!(bench.rcc(&["undo"]).code, 0);
        assert_eq!(bench.text("a"), "1\n");
    }
}
