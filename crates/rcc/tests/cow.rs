//! Copy-on-write runs with the real program: what an agent changes waits beside the project, is shown without being
//! obeyed, and goes away without a trace. Once as the caller, and when that is root once more as an ordinary user.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use bench::{Bench, snapshot};
use rcc_testkit::require;

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

/// Changes of every kind.
const WORK: &str = "set -e
sed -i 's/5/five/' kept; rm removed; rm -r directory; chmod 755 mode; mkdir -p new/deep; echo x > new/deep/file
ln -s /etc/passwd link; rm -r replaced; mkdir replaced; echo other > replaced/here
rm file-to-directory; mkdir file-to-directory; echo x > file-to-directory/in; echo 1 > rewritten; touch -d 2001-01-01 untouched";

fn project(bench: &Bench) {
    for name in ["kept", "removed", "directory/a", "directory/b/c", "mode"] {
        bench.file(name, "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }
    for name in [
        "replaced/here",
        "replaced/gone",
        "file-to-directory",
        "untouched",
    ] {
        bench.file(name, "text\n");
    }
    bench.file("rewritten", "1\n");
}

#[test]
fn a_run_changes_nothing_of_the_project_and_its_changes_are_told() {
    let bench = Bench::new("nothing");
    project(&bench);
    let before = snapshot(&bench.project());

    let output = bench.cow(WORK);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output.stderr.contains("13 files changed; rcc diff"),
        "{output:?}"
    );
    assert_eq!(snapshot(&bench.project()), before);

    let names = bench.rcc(&["diff", "--name-status"]);
    assert_eq!(names.code, 0, "{names:?}");
    assert_eq!(
        names.stdout,
        "D\tdirectory/a\nD\tdirectory/b/c\nT\tfile-to-directory/\nA\tfile-to-directory/in\nM\tkept\nA\tlink\nM\tmode\nA\tnew/deep/file\nD\tremoved\nD\treplaced/gone\nM\treplaced/here\nM\trewritten\t(times only)\nM\tuntouched\t(times only)\n",
        "{names:?}"
    );
    assert_eq!(snapshot(&bench.project()), before);

    // Positive control: the same work without --cow changes the project.
    assert_eq!(bench.rcc(&["run", "-n", "--", "sh", "-c", WORK]).code, 0);
    assert_ne!(snapshot(&bench.project()), before);
}

#[test]
fn a_run_that_changes_nothing_is_silent_and_leaves_nothing() {
    let bench = Bench::new("silent");
    bench.file("a", "same\n");
    let output = bench.cow("cp -p a /tmp/x; cat /tmp/x > a; touch -r /tmp/x a; mkdir d; rmdir d");
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    assert_eq!(bench.layers(), 0);
    let list = bench.rcc(&["diff", "--list"]);
    assert!(
        list.stdout.is_empty() && list.stderr.contains("no run has changes"),
        "{list:?}"
    );
}

#[test]
fn what_is_shown_cannot_drive_a_terminal() {
    let bench = Bench::new("terminal");
    bench.file("text", "plain\n");
    let output = bench.cow(
        r#"printf '\033[2Jgone\r\n' > text; touch "$(printf 'a\nb\033[31m')" "$(printf 'bad\377name')"; printf 'a\0b' > binary"#,
    );
    assert_eq!(output.code, 0, "{output:?}");
    for form in [
        &["diff"][..],
        &["diff", "--stat"],
        &["diff", "--name-status"],
        &["diff", "--json"],
    ] {
        let shown = bench.rcc(form);
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(
            !shown.stdout.contains(['\u{1b}', '\r']),
            "{form:?}: {shown:?}"
        );
        assert!(shown.stdout.contains("text"), "{form:?}: {shown:?}");
    }
    let text = bench.rcc(&["diff"]).stdout;
    assert!(text.contains("-plain\n+\\u{1b}[2Jgone\\u{d}\n"), "{text}");
    assert!(text.contains("binary: 0 bytes -> 3 bytes"), "{text}");
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert!(names.contains("A\ta\\u{a}b\\u{1b}[31m\n"), "{names}");
    assert!(names.contains("A\tbad\\xffname\n"), "{names}");
}

/// Everything that would make a careless reader wait, follow, fill the memory or lose its way.
const HOSTILE: &str = "set -e
mkfifo fifo; ln -s / out; ln -s ../../../../../../etc/passwd passwd; ln -s loop loop
truncate -s 100G sparse; echo x > suid; chmod 6755 suid
mkdir closed; echo x > closed/in; chmod 000 closed; echo x > unreadable; chmod 000 unreadable
n=$(printf '%0255d' 7); touch \"$n\"
top=$PWD; for i in $(seq 8); do mkdir -p $(printf 'd/%.0s' $(seq 500)); cd $(printf 'd/%.0s' $(seq 500)); done; echo deep > deep; cd \"$top\"
mknod null c 1 3 2>/dev/null && exit 3; mknod white c 0 0 2>/dev/null && exit 4; true";

#[test]
fn a_hostile_tree_is_shown_and_removed() {
    let bench = Bench::new("hostile");
    bench.file("a", "x\n");
    let before = snapshot(&bench.project());
    let output = bench.cow(HOSTILE);
    assert_eq!(output.code, 0, "{output:?}");
    for form in [
        &["diff"][..],
        &["diff", "--stat"],
        &["diff", "--name-status"],
        &["diff", "--json"],
    ] {
        let shown = bench.rcc(form);
        assert_eq!(shown.code, 0, "{form:?} {}", shown.stderr);
        assert!(
            !shown.stdout.contains("root:"),
            "{form:?}: a link was followed"
        );
    }
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert!(
        names.contains("X\tfifo\t(FIFO, never applied)\n"),
        "{names}"
    );
    assert!(
        names.contains("A\tsuid\t(set-user-id or set-group-id, which is never applied)\n"),
        "{names}"
    );
    assert!(names.contains(&format!("A\t{}deep\n", "d/".repeat(4000))));
    let stat = bench.rcc(&["diff", "--stat", "sparse"]).stdout;
    assert!(
        stat.contains("too large to show, 0 -> 107374182400 bytes"),
        "{stat}"
    );

    assert_eq!(bench.layers(), 1);
    let gone = bench.rcc(&["discard"]);
    assert_eq!((gone.code, gone.stderr.as_str()), (0, ""), "{gone:?}");
    assert_eq!(bench.layers(), 0);
    assert_eq!(snapshot(&bench.project()), before);
    let again = bench.rcc(&["discard"]);
    assert_eq!(again.code, 125, "{again:?}");
    assert!(again.stderr.contains("no run has changes"), "{again:?}");
}

#[test]
fn protected_paths_stay_closed_on_top_of_the_layer() {
    let bench = Bench::new("protected");
    bench.file(".git/config", "[core]\n");
    bench.file(".git/hooks/pre-commit.sample", "x\n");
    bench.file(".envrc", "x\n");
    for (script, error) in [
        ("echo x >> .git/config", "Read-only file system"),
        ("echo x > .git/hooks/pre-commit", "Read-only file system"),
        ("echo x > .envrc", "Read-only file system"),
        ("mv .git x", "Device or resource busy"),
        ("rm .envrc", "Device or resource busy"),
    ] {
        let output = bench.cow(script);
        assert_ne!(output.code, 0, "{script}: {output:?}");
        assert!(output.stderr.contains(error), "{script}: {output:?}");
        // Positive control: beside the protected name the same call works.
        assert_eq!(
            bench
                .cow("echo x > .git/index; echo x > envrc; rm envrc .git/index")
                .code,
            0
        );
    }
}

#[test]
fn a_writable_path_in_the_project_belongs_to_the_layer_and_a_file_outside_is_told() {
    let bench = Bench::new("granted");
    bench.file("sub/a", "1\n");
    let outside = bench.base().join("outside");
    std::fs::write(&outside, "1\n").unwrap();
    let before = snapshot(&bench.project());
    let script = format!("echo 2 > sub/a; echo 2 > {}", outside.display());
    let run = |mode: &str| {
        let outside = outside.to_str().unwrap();
        let grants = [
            "run", "-n", mode, "--rw", "sub", "--rw", outside, "--", "sh", "-c", &script,
        ];
        bench.rcc(&grants)
    };
    let output = run("--cow");
    assert_eq!(output.code, 0, "{output:?}");
    let told = format!(
        "because only directories can be kept apart: {}\n",
        outside.display()
    );
    assert!(output.stderr.contains(&told), "{output:?}");
    assert_eq!(snapshot(&bench.project()), before);
    assert_eq!(bench.rcc(&["diff", "--name-status"]).stdout, "M\tsub/a\n");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "2\n");
    // Positive control: a direct run changes it, and says nothing of the kind.
    let output = run("--snapshot");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!output.stderr.contains("kept apart"), "{output:?}");
    assert_eq!(bench.text("sub/a"), "2\n");
}

#[test]
fn what_programs_of_the_host_would_run_is_told_at_the_end() {
    let bench = Bench::new("brings");
    bench.file("a", "x\n");
    let output = bench.cow(
        "echo x > .envrc; mkdir -p sub/.vscode .github/workflows; echo {} > sub/.vscode/tasks.json; echo x > Makefile; echo x > b
         mkdir -p bare/objects bare/refs; echo x > bare/HEAD; echo x > bare/config; rm a",
    );
    assert_eq!(output.code, 0, "{output:?}");
    for text in [
        "among the changes, and run or trusted by programs of your own once they are applied",
        "\n  .envrc (direnv",
        "\n  sub/.vscode/tasks.json (",
        "\n  bare/config (git takes configuration or programs from it; rcc apply holds it back until you name it)",
        "1 new or changed file run or count when you build, test or open the project: Makefile",
    ] {
        assert!(output.stderr.contains(text), "{text}: {output:?}");
    }
    assert!(!output.stderr.contains("  b ("), "{output:?}");
    // Positive control: what is told to be held back is.
    let applied = bench.rcc(&["apply"]);
    for name in [".envrc", "bare/config", "sub/.vscode"] {
        assert!(
            applied.stderr.contains(&format!("held back: {name}")),
            "{applied:?}"
        );
    }
    // A run that brings nothing of the kind says nothing of it.
    let output = bench.cow("echo y > plain");
    assert!(
        !output.stderr.contains("programs of your own"),
        "{output:?}"
    );
}

#[test]
fn the_layer_is_out_of_the_agents_reach() {
    let bench = Bench::new("reach");
    bench.file("a", "x\n");
    let output = bench.cow(&format!(
        "echo y > a; ls {} 2>&1; find / -xdev -name upper 2>/dev/null; cat /proc/self/mountinfo",
        bench.state().display()
    ));
    assert!(output.stdout.contains("No such file"), "{output:?}");
    assert!(!output.stdout.contains("/runs/"), "{output:?}");
    let layer = bench.only_layer();
    assert_eq!(
        layer.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        layer.metadata().unwrap().uid(),
        rustix::process::geteuid().as_raw()
    );
}

#[test]
fn a_later_run_goes_on_with_the_changes_of_an_earlier_one() {
    let bench = Bench::new("continue");
    bench.file("a", "1\n");
    assert_eq!(bench.cow("echo 2 > a; echo new > b").code, 0);
    let first = bench.rcc(&["diff", "--list"]).stdout;
    let id = first.split_whitespace().next().unwrap().to_owned();
    let output = bench.rcc(&[
        "--continue",
        &id,
        "run",
        "-n",
        "--",
        "sh",
        "-c",
        "cat a b; echo 3 >> b",
    ]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "2\nnew\n"),
        "{output:?}"
    );
    assert_eq!(bench.layers(), 1);
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert_eq!(names, "M\ta\nA\tb\n");
    let again = bench.rcc(&["--continue", &id, "run", "-n", "--", "true"]);
    assert_eq!(again.code, 125, "{again:?}");
    assert!(
        again.stderr.contains("no copy-on-write run is called"),
        "{again:?}"
    );
}

#[test]
fn two_runs_at_once_do_not_see_each_other() {
    let bench = Bench::new("two");
    bench.file("a", "1\n");
    let script = "echo inside > b; rcc_other=$(cat a); echo $rcc_other";
    let output = bench.cow(script);
    assert_eq!(output.stdout, "1\n", "{output:?}");
    let output = bench.cow("ls; echo 2 > a");
    assert_eq!(output.stdout, "a\n", "{output:?}");
    let which = bench.rcc(&["diff"]);
    assert_eq!(which.code, 125, "{which:?}");
    assert!(
        which.stderr.contains("several runs have changes"),
        "{which:?}"
    );
    assert_eq!(bench.rcc(&["discard"]).code, 125);
    assert_eq!(bench.layers(), 2);
    for line in bench.rcc(&["diff", "--list"]).stdout.lines() {
        let id = line.split_whitespace().next().unwrap();
        assert_eq!(bench.rcc(&["diff", id, "--name-status"]).code, 0);
        assert_eq!(bench.rcc(&["discard", id]).code, 0);
    }
    assert_eq!(bench.layers(), 0);
}

#[test]
fn a_project_with_a_mount_in_it_is_refused_with_the_reason() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("mount");
    bench.file("sub/a", "1\n");
    let rcc = bench::program();
    let script = format!(
        "mount -t tmpfs none sub && exec {} --cow run -n -- true",
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
    assert!(output.stderr.contains("/sub"), "{output:?}");
    assert_eq!(bench.layers(), 0);
    // Positive control: without --cow it runs, and without the mount as well.
    let script = script.replace("--cow ", "");
    assert_eq!(bench.host("unshare", &["-rm", "sh", "-c", &script]).code, 0);
    assert_eq!(bench.cow("true").code, 0);
}

#[test]
fn ordinary_git_work_goes_on_inside() {
    if !require("git") {
        return;
    }
    let bench = Bench::new("git");
    bench.file("a", "1\n");
    let git = "git -c user.name=a -c user.email=a@example.com";
    let start = format!("{git} init -q -b main . && {git} add a && {git} commit -qm 1");
    assert_eq!(bench.host("sh", &["-c", &start]).code, 0);
    let output = bench.cow(&format!(
        "set -e; {git} checkout -qb x; echo 2 > a; {git} commit -qam 2; {git} stash list; echo 3 > a; {git} stash -q; {git} stash pop -q; {git} commit -qam 3
         {git} checkout -q main; {git} merge -q x; {git} rebase -q x; {git} gc -q; {git} status --short; {git} log --format=%s"
    ));
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "3\n2\n1\n"),
        "{output:?}"
    );
    let log = bench.host("git", &["log", "--format=%s"]);
    assert_eq!(log.stdout, "1\n", "{log:?}");
}
