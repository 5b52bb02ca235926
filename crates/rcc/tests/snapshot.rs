//! Direct runs with `--snapshot`: what an agent did to the project is taken back to the last bit, what the user did since
//! is left alone, and what cannot be kept stops the run. Once as the caller, and when that is root once more as an ordinary user.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{Bench, Said, snapshot};
use rcc_testkit::require;
use rustix::fs::{XattrFlags, getxattr, setxattr};

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

fn run(bench: &Bench, script: &str) -> Said {
    bench.rcc(&["run", "-n", "--snapshot", "--", "bash", "-c", script])
}

/// The records that still hold a snapshot, finished or not.
fn snapshots(bench: &Bench) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(bench.state().join("rcc/runs"));
    runs.into_iter()
        .flatten()
        .map(|run| run.unwrap().path().join("snapshot"))
        .filter(|path| path.exists())
        .collect()
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
        "times",
        "to-directory",
        "holder/x",
        "again/old",
        "again/same",
        "closed/in",
        "read-only/in",
    ] {
        bench.file(name, format!("{name} of the user\n"));
    }
    let path = |name: &str| bench.project().join(name);
    std::fs::hard_link(path("linked"), path("other-name")).unwrap();
    bench.file("pair", "pair\n");
    std::fs::hard_link(path("pair"), path("again/pair")).unwrap();
    symlink("kept", path("link")).unwrap();
    symlink("kept", path("link-removed")).unwrap();
    for name in ["kept", "gone", "again"] {
        setxattr(
            path(name),
            "user.rcc-test",
            b"of the user",
            XattrFlags::empty(),
        )
        .unwrap();
    }
    let mode = |name: &str, mode| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("gone/a", 0o751);
    mode("again", 0o2770);
    let touch = "truncate -s 3M sparse; find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +; chmod 555 read-only";
    assert_eq!(bench.host("sh", &["-c", touch]).code, 0);
}

/// Changes all of it, closes directories to their owner, and sets times back.
const WORK: &str = "set -e
echo more >> kept; echo more >> linked; rm removed link-removed; rm -r gone; chmod 700 mode; touch -d 2002-02-02 times
rm to-directory; mkdir to-directory; echo x > to-directory/in; rm -r holder; echo x > holder
cp again/pair p; mv -f p again/pair; rm -r again/old again/same; chmod 711 again; echo 'again/same of the user' > again/same
ln -sfn /etc/passwd link; mkdir -p new/deep; echo x > new/deep/file; : > empty; mkfifo fifo; echo x >> sparse
echo y > closed/in; chmod 000 closed; mkdir -p shut/in; echo x > shut/in/x; chmod 555 shut/in shut
chmod 755 read-only; echo y > read-only/in; echo y > read-only/more; chmod 555 read-only; touch -d '2001-02-03 04:05:06.789' .; chmod 700 .";

#[test]
fn a_direct_run_is_taken_back_to_the_last_bit() {
    let bench = Bench::new("round");
    project(&bench);
    let before = snapshot(&bench.project());

    let output = run(&bench, WORK);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("snapshot: "), "{output:?}");
    assert!(output.stderr.contains("changed; rcc diff"), "{output:?}");
    // Positive control: this is no copy-on-write run.
    assert_eq!(bench.text("kept"), "kept of the user\nmore\n");
    assert!(snapshots(&bench).is_empty(), "only what differs is kept");

    let names = bench.rcc(&["diff", "--name-status"]);
    assert_eq!(names.code, 0, "{names:?}");
    for line in [
        "M\tkept\n",
        "M\tlinked\n",
        "M\tother-name\n",
        "D\tremoved\n",
        "D\tgone/deep/b\n",
        "M\tmode\n",
        "M\ttimes\t(times only)\n",
        "T\tto-directory/\n",
        "T\tholder\n",
        "A\tnew/deep/file\n",
        "A\tfifo\n",
        "M\tclosed/in\n",
        "A\tread-only/more\n",
        "M\t./\n",
    ] {
        assert!(names.stdout.contains(line), "{line} {names:?}");
    }
    assert!(!names.stdout.contains("again/link\n"), "{names:?}");
    let text = bench.rcc(&["diff", "kept"]).stdout;
    assert!(text.contains(" kept of the user\n+more\n"), "{text}");

    let after = snapshot(&bench.project());
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    let told = "not kept: fifo, which is no file, or cannot be read";
    assert!(undone.stderr.contains(told), "{undone:?}");
    assert_eq!(snapshot(&bench.project()), before);
    let path = |name: &str| bench.project().join(name);
    for name in ["kept", "gone", "again"] {
        let mut value = [0_u8; 64];
        let length = getxattr(path(name), "user.rcc-test", &mut value).unwrap();
        assert_eq!(&value[..length], b"of the user", "{name}");
    }
    for (one, other) in [("linked", "other-name"), ("pair", "again/pair")] {
        let inode = |name: &str| path(name).metadata().unwrap().ino();
        assert_eq!(inode(one), inode(other), "{one}");
    }
    let nothing = bench.rcc(&["undo"]);
    assert_eq!(nothing.code, 125, "{nothing:?}");
    assert!(
        nothing.stderr.contains("nothing was applied"),
        "{nothing:?}"
    );

    // And all of it but the FIFO comes again, and goes again.
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    let redone = bench.rcc(&["redo"]);
    assert_eq!(redone.code, 0, "{redone:?}");
    let mut expected = after;
    expected.remove(&path("fifo"));
    // The name that the agent took from it is kept in the record, as one of the same file, for the next undo.
    let pair = expected.get_mut(&path("pair")).unwrap();
    *pair = pair.replace(" links 1 ", " links 2 ");
    assert_eq!(snapshot(&bench.project()), expected);
    assert_eq!(names, "", "what was undone is no change that waits");
    let again = bench.rcc(&["diff", "--name-status"]).stdout;
    assert!(
        again.contains("M\tkept\n") && again.contains("A\tnew/deep/file\n"),
        "{again}"
    );
    let nothing = bench.rcc(&["redo"]);
    assert_eq!(nothing.code, 125, "{nothing:?}");
    assert!(
        nothing.stderr.contains("nothing was taken back"),
        "{nothing:?}"
    );
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(snapshot(&bench.project()), before);
}

#[test]
fn an_undo_without_room_to_keep_what_goes_changes_nothing_unless_it_may_forget() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("full-undo");
    bench.file("a", "1\n");
    let rcc = bench::program();
    let script = format!(
        "mount -t tmpfs -o mode=700,size=4m none ../state; rcc={}
$rcc run -n --snapshot -- sh -c 'echo 2 > a; head -c 8000000 /dev/zero | tr \\\\0 x > large'
$rcc undo; echo $? $(cat a) $(ls)
find ../state -path '*/undo/2' | grep . || echo nothing is left
$rcc undo --forget; echo $? $(cat a) $(ls); $rcc redo; echo $?",
        rcc.display()
    );
    let output = bench.host("unshare", &["-rm", "sh", "-c", &script]);
    assert_eq!(
        output.stdout, "125 2 a large\nnothing is left\n0 1 a\n125\n",
        "{output:?}"
    );
    assert!(output.stderr.contains("rcc undo --forget"), "{output:?}");
}

/// What an agent can do to an entry besides its content.
#[test]
fn changes_of_nothing_but_attributes_modes_and_times_are_shown() {
    let bench = Bench::new("looks");
    for name in [
        "noted", "listed", "dated", "mode", "same", "with", "d/in", "like/x",
    ] {
        bench.file(name, "same\n");
    }
    symlink("dated", bench.project().join("link")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        setxattr(
            bench.project().join(name),
            attribute,
            value,
            XattrFlags::empty(),
        )
        .unwrap();
    };
    // An access list that names the caller (`linux/posix_acl_xattr.h`): tag, rights and id of each entry.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (0x01_u16, 7_u16, u32::MAX),
        (0x02, 4, rustix::process::geteuid().as_raw()),
        (0x04, 0, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    set("noted", "user.note", b"of the user");
    set("with", "user.note", b"of the agent\x1b");
    set("with", "system.posix_acl_access", &list);
    set("like", "user.note", b"of the agent");
    let touch = "find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +";
    assert_eq!(bench.host("sh", &["-c", touch]).code, 0);
    let before = snapshot(&bench.project());
    let output = run(
        &bench,
        "set -e; cp --attributes-only --preserve=xattr with noted; cp --attributes-only --preserve=mode with listed
         touch -d '2002-02-02 02:02:02.2Z' dated; touch -h -d 2003-03-03 link; chmod 640 mode
         cp -r --attributes-only --preserve=xattr like/. d; rm d/x; touch -d '2001-02-03 04:05:06.789' noted listed d
         cp same s; cat s > same; rm s; touch -d '2001-02-03 04:05:06.789' same .",
    );
    assert_eq!(output.code, 0, "{output:?}");
    let names = bench.rcc(&["diff", "--name-status"]);
    assert_eq!(
        names.stdout,
        "M\td/\t(attributes only)\nM\tdated\t(times only)\nM\tlink\t(times only)\nM\tlisted\nM\tmode\nM\tnoted\t(attributes only)\n",
        "{names:?}"
    );
    let text = bench.rcc(&["diff"]).stdout;
    for line in [
        "old user.note: of the user\nnew user.note: of the agent\\u{1b}\n",
        "new access list: user::rwx,user:",
        "old time 2001-02-03T04:05:06.789Z\nnew time 2002-02-02T02:02:02.200Z\n",
        "old file mode 0644\nnew file mode 0640\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json = bench.rcc(&["diff", "--json", "noted"]).stdout;
    assert!(json.contains(r#""differs":["attributes"]"#), "{json}");
    let stat = bench.rcc(&["diff", "--stat", "dated"]).stdout;
    assert_eq!(stat, " M dated | +0 -0, times\n");
    for direction in ["undo", "redo", "undo"] {
        let done = bench.rcc(&[direction]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(snapshot(&bench.project()), before);
}

#[test]
fn what_the_user_changed_since_is_left_alone_and_told() {
    let bench = Bench::new("since");
    for name in ["mine", "theirs", "removed"] {
        bench.file(name, "old\n");
    }
    let output = run(
        &bench,
        "echo agent > mine; echo agent > theirs; rm removed; mkdir new; echo agent > new/a",
    );
    assert_eq!(output.code, 0, "{output:?}");
    bench.file("mine", "the user's own words\n");
    bench.file("removed", "the user's, too\n");
    bench.file("new/b", "the user's as well\n");
    let diff = bench.rcc(&["diff", "--name-status"]);
    assert!(
        diff.stderr.contains("changed again since the run ended") && diff.stderr.contains("mine"),
        "{diff:?}"
    );
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 1, "{undone:?}");
    for name in ["mine", "removed", "new"] {
        let line = format!("left alone: {name} was changed since");
        assert!(undone.stderr.contains(&line), "{line}: {undone:?}");
    }
    assert_eq!(bench.text("mine"), "the user's own words\n");
    assert_eq!(bench.text("removed"), "the user's, too\n");
    assert_eq!(bench.text("new/b"), "the user's as well\n");
    assert!(!bench.project().join("new/a").exists());
    assert_eq!(bench.text("theirs"), "old\n");
}

#[test]
fn a_change_that_hides_behind_its_old_times_is_found() {
    let bench = Bench::new("times");
    bench.file("a", "old\n");
    let output = run(&bench, "cp -p a /tmp/a; echo new > a; touch -r /tmp/a a");
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(bench.text("a"), "new\n");
    assert_eq!(bench.rcc(&["diff", "--name-status"]).stdout, "M\ta\n");
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(bench.text("a"), "old\n");
}

#[test]
fn a_run_that_changes_nothing_leaves_nothing() {
    let bench = Bench::new("nothing");
    project(&bench);
    let output = run(&bench, "cat kept > /tmp/x; touch t; rm t");
    assert_eq!(output.code, 0, "{output:?}");
    let names = bench.rcc(&["diff", "--name-status"]);
    assert!(!output.stderr.contains("changed"), "{output:?} {names:?}");
    assert!(snapshots(&bench).is_empty());
    let list = bench.rcc(&["diff", "--list"]);
    assert!(list.stderr.contains("no run has changes"), "{list:?}");
    // Positive control: one with changes is listed.
    assert_eq!(run(&bench, "echo x > new").code, 0);
    let list = bench.rcc(&["diff", "--list"]).stdout;
    assert!(list.contains("(snapshot)"), "{list}");
    // And discarded only by its name.
    assert_eq!(bench.rcc(&["discard"]).code, 125);
    let id = list.split_whitespace().next().unwrap();
    let gone = bench.rcc(&["discard", id]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(bench.rcc(&["diff", "--list"]).stdout, "");
    assert_eq!(bench.rcc(&["undo"]).code, 125);
    assert_eq!(bench.text("new"), "x\n");
}

#[test]
fn the_snapshot_is_out_of_the_agents_reach() {
    let bench = Bench::new("reach");
    bench.file("a", "a needle of the user\n");
    let state = bench.state();
    let output = run(
        &bench,
        &format!(
            "echo y > a; ls {} 2>&1; cat /proc/self/mountinfo",
            state.display()
        ),
    );
    assert!(output.stdout.contains("No such file"), "{output:?}");
    assert!(!output.stdout.contains("/runs/"), "{output:?}");
    // Positive control: it is there, and private.
    let id = bench.rcc(&["diff", "--list"]).stdout;
    let id = id.split_whitespace().next().unwrap();
    let store = state.join("rcc/runs").join(id).join("undo/1");
    assert_eq!(
        std::fs::read_to_string(store.join("0")).unwrap(),
        "a needle of the user\n"
    );
    assert_eq!(store.metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_is_hidden_is_not_copied_and_special_files_are_told_and_never_opened() {
    let bench = Bench::new("special");
    bench.file(".env", "a secret of the user\n");
    bench.file("a", "1\n");
    assert_eq!(bench.host("mkfifo", &["pipe"]).code, 0);
    let _socket = std::os::unix::net::UnixListener::bind(bench.project().join("socket")).unwrap();
    let output = bench.rcc(&[
        "run",
        "-n",
        "--snapshot",
        "--hide",
        ".env",
        "--",
        "sh",
        "-c",
        "echo 2 > a; rm pipe",
    ]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output
            .stderr
            .contains("not in the snapshot: pipe, socket (FIFOs"),
        "{output:?}"
    );
    assert!(output.stderr.contains("snapshot: 1 files"), "{output:?}");
    let found = bench.host(
        "grep",
        &["-rl", "a secret of", bench.state().to_str().unwrap()],
    );
    assert_eq!(found.stdout, "", "{found:?}");
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(bench.text("a"), "1\n");
    assert_eq!(bench.text(".env"), "a secret of the user\n");
    assert!(!bench.project().join("pipe").exists());
}

/// A policy of the user's.
fn policy(bench: &Bench, text: &str) {
    let directory = bench.base().join("home/.config/rcc");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), text).unwrap();
}

#[test]
fn what_costs_more_than_it_may_is_refused_with_the_fix() {
    let bench = Bench::new_in(Path::new("/dev/shm"), "limit");
    bench.file("large", vec![7_u8; 3 << 20]);
    policy(
        &bench,
        "version = 1\n[files]\nsnapshot = true\nsnapshot_limit = \"2MiB\"\n",
    );
    let refused = bench.rcc(&["run", "-n", "--", "touch", "ran"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains(
            "a snapshot would copy 1 files of 3 MiB together, and files.snapshot_limit is 2 MiB"
        ) && refused
            .stderr
            .contains("raise snapshot_limit in [files], or run with --cow"),
        "{refused:?}"
    );
    assert!(!bench.project().join("ran").exists());
    assert!(snapshots(&bench).is_empty());
    // Positive control: with a higher limit, by the policy alone, and in a copy-on-write run, which has no snapshot.
    policy(
        &bench,
        "version = 1\n[files]\nsnapshot = true\nsnapshot_limit = \"4MiB\"\n",
    );
    let output = bench.rcc(&["run", "-n", "--", "touch", "ran"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output.stderr.contains("snapshot: 1 files, 3 MiB copied"),
        "{output:?}"
    );
    let output = bench.rcc(&["run", "-n", "--cow", "--", "true"]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
}

#[test]
fn where_there_is_no_room_the_run_is_refused_and_nothing_is_left() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("room");
    bench.file("large", vec![7_u8; 3 << 20]);
    let rcc = bench::program();
    let script = |size: &str| {
        format!(
            "mount -t tmpfs -o mode=700,size={size} none ../state && {} --snapshot run -n -- touch ran; code=$?; find ../state -name snapshot; exit $code",
            rcc.display()
        )
    };
    let refused = bench.host("unshare", &["-rm", "sh", "-c", &script("2m")]);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (125, ""),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("a snapshot needs 3 MiB in") && refused.stderr.contains("are free"),
        "{refused:?}"
    );
    assert!(!bench.project().join("ran").exists());
    let enough = bench.host("unshare", &["-rm", "sh", "-c", &script("9m")]);
    assert_eq!(enough.code, 0, "{enough:?}");
}

#[test]
fn a_disk_that_is_full_after_all_is_told_and_nothing_is_left() {
    if !require("strace") {
        return;
    }
    let bench = Bench::new("full");
    bench.file("a", vec![7_u8; 1 << 20]);
    let said = strace(&bench, "copy_file_range:error=ENOSPC");
    assert_eq!(said.code, 125, "{said:?}");
    assert!(
        said.stderr.contains("cannot copy") && said.stderr.contains("No space"),
        "{said:?}"
    );
    assert!(snapshots(&bench).is_empty());
    assert!(!bench.project().join("ran").exists());
}

/// A run that would leave a file `ran`, with one kind of call tampered with.
fn strace(bench: &Bench, inject: &str) -> Said {
    let rcc = bench::program();
    let inject = format!("inject={inject}");
    let name = inject.split(['=', ':']).nth(1).unwrap();
    let trace = format!("trace={name}");
    let arguments = [
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
        "--",
        rcc.to_str().unwrap(),
        "--snapshot",
        "run",
        "-n",
        "--",
        "touch",
        "ran",
    ];
    bench.host("strace", &arguments)
}

#[test]
fn control_c_while_the_snapshot_is_taken_leaves_nothing() {
    if !require("strace") {
        return;
    }
    let bench = Bench::new("interrupted");
    for number in 0..200 {
        bench.file(&format!("files/{number}"), vec![7_u8; 70 << 10]);
    }
    let said = strace(&bench, "copy_file_range:signal=SIGINT:when=2");
    assert_eq!(said.code, -1, "ended by the signal: {said:?}");
    assert!(!bench.project().join("ran").exists());
    let runs = std::fs::read_dir(bench.state().join("rcc/runs")).unwrap();
    assert_eq!(runs.count(), 0);
    // Positive control.
    assert_eq!(run(&bench, "touch ran").code, 0);
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_told_and_left_alone() {
    if !require("strace") {
        return;
    }
    let bench = Bench::new("changing");
    let log = bench.file("log", vec![b'x'; 200 << 10]);
    bench.file("a", "1\n");
    let done = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
            while !done.load(Ordering::Relaxed) {
                log.write_all(b"more\n").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // Each copy takes longer than several writes.
        let said = strace(&bench, "copy_file_range:delay_exit=300000");
        done.store(true, Ordering::Relaxed);
        said
    });
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stderr
            .contains("not in the snapshot, because they changed while they were copied: log"),
        "{said:?}"
    );
    let size = log.metadata().unwrap().len();
    assert_eq!(bench.rcc(&["diff", "--name-status"]).stdout, "A\tran\n");
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    assert_eq!(log.metadata().unwrap().len(), size);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_name() {
    let bench = Bench::new("unreadable");
    for name in ["a", "secret", "closed/b"] {
        bench.file(name, "1\n");
    }
    let mode = |name: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(bench.project().join(name), mode).unwrap();
    };
    mode("secret", 0);
    mode("closed", 0);
    let refused = run(&bench, "touch ran");
    // Root reads everything.
    if rustix::process::geteuid().is_root() {
        assert_eq!(refused.code, 0, "{refused:?}");
        return;
    }
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("closed, secret cannot be read")
            || refused.stderr.contains("secret, closed cannot be read"),
        "{refused:?}"
    );
    mode("secret", 0o600);
    mode("closed", 0o700);
    assert_eq!(run(&bench, "touch ran").code, 0);
}

#[test]
fn a_project_with_a_mount_in_it_is_refused() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("mount");
    bench.file("sub/a", "1\n");
    let rcc = bench::program();
    let script = format!(
        "mount -t tmpfs none sub && exec {} --snapshot run -n -- true",
        rcc.display()
    );
    let output = bench.host("unshare", &["-rm", "sh", "-c", &script]);
    assert_eq!(output.code, 125, "{output:?}");
    assert!(
        output
            .stderr
            .contains("another file system is mounted in it, at"),
        "{output:?}"
    );
    let script = script.replace("--snapshot ", "");
    assert_eq!(bench.host("unshare", &["-rm", "sh", "-c", &script]).code, 0);
}

/// Waits for a file.
fn wait_for(path: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < until, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_runs_at_once_are_told_and_each_is_taken_back() {
    let bench = Bench::new("two");
    bench.file("a", "1\n");
    let before = snapshot(&bench.project());
    let mut command = bench.command(bench::program());
    command
        .args(["run", "-n", "--snapshot", "--", "sh", "-c"])
        .arg("echo first > first; while ! [ -e go ]; do sleep 0.05; done; echo late > late")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let first = command.spawn().unwrap();
    wait_for(&bench.project().join("first"));
    let second = run(&bench, "echo second > second; echo 2 > a");
    assert_eq!(second.code, 0, "{second:?}");
    // Only now: which of two runs that end together is the later one, nobody knows.
    bench.file("go", "");
    let told = "other runs worked on the project at the same time";
    assert!(second.stderr.contains(told), "{second:?}");
    let first = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&first.stderr);
    assert!(first.status.success() && said.contains(told), "{said}");
    // The later one to end knows of everything since it began.
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    let now = snapshot(&bench.project());
    assert_eq!(now, before);
}

#[test]
fn a_run_that_was_killed_is_told_and_taken_back_at_the_second_word() {
    let bench = Bench::new("killed");
    project(&bench);
    let before = snapshot(&bench.project());
    let mut command = bench.command(bench::program());
    command
        .args(["run", "-n", "--snapshot", "--", "bash", "-c"])
        .arg(format!("{WORK}\necho x > ready; sleep 600"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for(&bench.project().join("ready"));
    let live = bench.rcc(&["diff", "--name-status"]).stdout;
    assert!(
        live.contains("M\tkept\n") && live.contains("A\tready\n"),
        "{live}"
    );
    child.kill().unwrap();
    let status = child.wait_with_output().unwrap().status;
    assert_eq!(status.signal(), Some(9));
    assert_eq!(snapshots(&bench).len(), 1);
    let first = bench.rcc(&["undo"]);
    assert_eq!(first.code, 1, "{first:?}");
    assert!(
        first
            .stderr
            .contains("was killed, so what you changed afterwards"),
        "{first:?}"
    );
    assert_eq!(bench.text("kept"), "kept of the user\nmore\n");
    let undone = bench.rcc(&["undo"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    assert_eq!(snapshot(&bench.project()), before);
}
