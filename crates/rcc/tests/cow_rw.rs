//! Copy-on-write runs that may change directories outside of the project, with the real program: each has a layer of its own,
//! and every command treats all of a run's layers as one. Once as the caller, and when that is root once more as an
//! ordinary user.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bench::{Bench, Said, said, snapshot};
use rcc_testkit::require;

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

/// A project with a file, and a directory outside of it with some.
struct Two {
    bench: Bench,
    data: PathBuf,
}

impl Two {
    fn new(name: &str) -> Self {
        let bench = Bench::new(name);
        bench.file("a", "1\n");
        let two = Self {
            data: bench.base().join("data"),
            bench,
        };
        for name in ["kept", "removed", "sub/in"] {
            two.write(name, "of the user\n");
        }
        two
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.data.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn data(&self, name: &str) -> String {
        self.data.join(name).to_str().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.data.join(name)).unwrap_or_else(|error| error.to_string())
    }

    /// Runs a script with `$data`, and these paths granted.
    fn cow_with(&self, flags: &[&str], script: &str) -> Said {
        let script = format!("data={}; {script}", self.data.display());
        let mut all = vec!["--cow"];
        all.extend(flags);
        all.extend(["run", "-n", "--", "bash", "-c", &script]);
        self.bench.rcc(&all)
    }

    fn cow(&self, script: &str) -> Said {
        let said = self.cow_with(&["--rw", &self.data("")], script);
        assert_eq!(said.code, 0, "{said:?}");
        said
    }

    fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.bench.rcc(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    }

    fn names(&self) -> String {
        let names = self.ok(&["diff", "--name-status"]).stdout;
        names.replace(self.data.to_str().unwrap(), "DATA")
    }
}

const WORK: &str = "set -e; echo 2 > a; echo x > new; echo more >> $data/kept; rm $data/removed; mkdir $data/made; echo y > $data/made/file";
const CHANGED: &str = "M\ta\nA\tnew\nM\tDATA/kept\nA\tDATA/made/file\nD\tDATA/removed\n";

#[test]
fn changes_in_two_trees_wait_together_and_are_applied_undone_and_discarded_together() {
    let two = Two::new("together");
    let before = (snapshot(&two.bench.project()), snapshot(&two.data));
    let now = || (snapshot(&two.bench.project()), snapshot(&two.data));
    let run = two.cow(WORK);
    assert!(run.stderr.contains("5 files changed; rcc diff"), "{run:?}");
    assert!(!run.stderr.contains("at once"), "{run:?}");
    assert_eq!(now(), before);
    assert_eq!(two.names(), CHANGED);
    let list = two.ok(&["diff", "--list"]).stdout;
    assert!(
        list.contains(&format!(" + {}", two.data.display())),
        "{list}"
    );
    let json = two.ok(&["diff", "--json", &two.data("kept")]).stdout;
    let line: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(line["path"], *two.data("kept"));
    assert_eq!(line["root"], *two.data.to_str().unwrap());
    let text = two.ok(&["diff", &two.data("made")]).stdout;
    assert!(text.contains("+y\n") && !text.contains("+more"), "{text}");
    let id = list.split_whitespace().next().unwrap();
    assert_eq!(two.bench.rcc(&["rm", id]).code, 125);

    // A part in each, the directory around the other tree, and a path in neither.
    two.ok(&["apply", &two.data("made"), "new"]);
    assert_eq!(two.names(), "M\ta\nM\tDATA/kept\nD\tDATA/removed\n");
    assert_eq!(
        (two.text("made/file"), two.bench.text("new")),
        ("y\n".into(), "x\n".into())
    );
    let outside = two
        .bench
        .rcc(&["apply", two.bench.state().to_str().unwrap()]);
    assert_eq!(outside.code, 125, "{outside:?}");
    assert!(
        outside.stderr.contains("is neither in the project"),
        "{outside:?}"
    );
    let undone = two.ok(&["undo"]);
    assert!(undone.stderr.contains("took 3 entries back"), "{undone:?}");
    assert_eq!(now(), before);
    assert_eq!(two.names(), CHANGED);

    let applied = two.ok(&["apply"]);
    assert!(applied.stderr.contains("applied 6 entries"), "{applied:?}");
    let after = now();
    assert_ne!((&after.0, &after.1), (&before.0, &before.1));
    assert_eq!(two.bench.rcc(&["diff"]).code, 125, "nothing waits");
    two.ok(&["undo"]);
    assert_eq!(now(), before);
    let again = two.ok(&["redo"]);
    assert!(again.stderr.contains("brought 6 entries back"), "{again:?}");
    assert_eq!(
        (two.text("made/file"), two.bench.text("a")),
        ("y\n".into(), "2\n".into())
    );
    assert_eq!(two.bench.rcc(&["diff"]).code, 125, "nothing waits again");
    two.ok(&["undo"]);
    assert_eq!(now(), before);
    two.ok(&["discard"]);
    assert_eq!((now(), two.bench.layers()), (before, 0));
}

#[test]
fn changes_of_the_further_directory_alone_wait_and_a_run_without_changes_leaves_nothing() {
    let two = Two::new("alone");
    let run = two.cow("cat $data/kept; mkdir $data/d; rmdir $data/d");
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        ("of the user\n", "")
    );
    assert_eq!(two.bench.layers(), 0);
    two.cow("echo more >> $data/kept");
    assert_eq!(two.names(), "M\tDATA/kept\n");
    // Other runs, and their ends, leave it alone.
    assert_eq!(two.bench.cow("true").code, 0);
    let list = two.ok(&["diff", "--list"]).stdout;
    let id = list.split_whitespace().next().unwrap();
    let kept = two.bench.rcc(&["rm", id]);
    assert!(
        kept.code == 125 && kept.stderr.contains("neither applied nor discarded"),
        "{kept:?}"
    );
    let applied = two.ok(&["apply", "."]);
    assert!(applied.stderr.contains("applied 0 entries"), "{applied:?}");
    assert_eq!(two.text("kept"), "of the user\n");
    two.ok(&["apply"]);
    assert_eq!(two.text("kept"), "of the user\nmore\n");
    two.ok(&["undo"]);
    assert_eq!(two.text("kept"), "of the user\n");
    two.ok(&["rm", "--force", id]);
    assert_eq!(two.bench.layers(), 0);
}

#[test]
fn a_conflict_in_one_tree_stops_all_of_it() {
    let two = Two::new("conflict");
    two.cow(WORK);
    two.write("kept", "edited by the user\n");
    let before = (snapshot(&two.bench.project()), snapshot(&two.data));
    let stopped = two.bench.rcc(&["apply"]);
    assert_eq!(stopped.code, 1, "{stopped:?}");
    let conflict = format!("conflict: {} was changed by you", two.data("kept"));
    assert!(stopped.stderr.contains(&conflict), "{stopped:?}");
    assert!(
        stopped.stderr.contains("nothing was applied"),
        "{stopped:?}"
    );
    assert_eq!(
        (snapshot(&two.bench.project()), snapshot(&two.data)),
        before
    );
    // Positive control: without the conflict it goes, and what is replaced by name comes back.
    two.ok(&["apply", "--overwrite", &two.data("kept")]);
    assert_eq!(two.text("kept"), "of the user\nmore\n");
    assert_eq!(two.bench.text("a"), "2\n");
    // What changed since stays, and the rest of both trees comes back.
    two.write("made/file", "of the user now\n");
    let undone = two.bench.rcc(&["undo"]);
    assert_eq!(undone.code, 1, "{undone:?}");
    let left = format!("left alone: {} was changed since", two.data("made/file"));
    assert!(undone.stderr.contains(&left), "{undone:?}");
    assert_eq!(
        (two.text("kept"), two.bench.text("a")),
        ("edited by the user\n".into(), "1\n".into())
    );
}

/// Links that the agent leaves, and links that are in the way by the time of the apply, lead nowhere.
#[test]
fn an_apply_stays_inside_of_every_tree() {
    let two = Two::new("inside");
    let outside = two.bench.base().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("in"), "of the user\n").unwrap();
    two.write("other/in", "of the user\n");
    two.cow(&format!(
        "set -e; rm -r $data/sub; ln -s {0} $data/sub; ln -s {0}/in $data/link; echo evil > $data/other/in; echo evil > $data/other/new",
        outside.display()
    ));
    // Somebody, another run perhaps, makes the user's directory a link.
    std::fs::remove_dir_all(two.data.join("other")).unwrap();
    symlink(&outside, two.data.join("other")).unwrap();
    let before = snapshot(&outside);
    let stopped = two.bench.rcc(&["apply", &two.data("other")]);
    assert_eq!(snapshot(&outside), before, "{stopped:?}");
    // Positive control: the agent's own links are applied, as links.
    two.ok(&[
        "apply",
        "--overwrite",
        &two.data("sub"),
        &two.data("sub"),
        &two.data("link"),
    ]);
    assert_eq!(std::fs::read_link(two.data.join("sub")).unwrap(), outside);
    assert_eq!(snapshot(&outside), before);
    two.ok(&["undo"]);
    assert_eq!(two.text("sub/in"), "of the user\n");
    assert_eq!(snapshot(&outside), before);

    // The directory itself is another one by now.
    std::fs::rename(&two.data, two.bench.base().join("moved")).unwrap();
    symlink(&outside, &two.data).unwrap();
    let refused = two.bench.rcc(&["apply"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert_eq!(snapshot(&outside), before);
    two.ok(&["discard"]);
    assert_eq!(snapshot(&outside), before);
}

/// A further directory can be a part of what programs obey: its own name counts.
#[test]
fn what_programs_obey_is_held_back_in_a_further_directory_too() {
    let two = Two::new("obey");
    let git = two.data("other/.git");
    let code = two.data("third/.vscode");
    two.write("other/.git/hooks/pre-commit", "#!/bin/sh\n");
    two.write("third/.vscode/tasks.json", "{}\n");
    two.write("third/.vscode/notes", "1\n");
    let run = two.cow_with(
        &["--rw", &git, "--rw", &code],
        "echo evil > $data/other/.git/hooks/pre-commit; echo evil > $data/third/.vscode/tasks.json; echo plain > $data/other/.git/description-of-mine",
    );
    assert_eq!(run.code, 0, "{run:?}");
    for name in ["other/.git/hooks/pre-commit", "third/.vscode/tasks.json"] {
        let told = format!("{} (", two.data(name));
        assert!(run.stderr.contains(&told), "{name}: {run:?}");
    }
    let applied = two.ok(&["apply"]);
    assert_eq!(
        applied.stderr.matches("held back: ").count(),
        2,
        "{applied:?}"
    );
    assert_eq!(two.text("other/.git/hooks/pre-commit"), "#!/bin/sh\n");
    assert_eq!(two.text("third/.vscode/tasks.json"), "{}\n");
    assert_eq!(two.text("other/.git/description-of-mine"), "plain\n");
    // Positive control: named, it goes.
    two.ok(&["apply", &two.data("third/.vscode/tasks.json")]);
    assert_eq!(two.text("third/.vscode/tasks.json"), "evil\n");
}

#[test]
fn paths_that_overlap_have_one_layer_and_files_none() {
    let two = Two::new("overlap");
    two.write("sub/secret/x", "hidden\n");
    two.write("sub/fixed/x", "fixed\n");
    let file = two.bench.base().join("file");
    std::fs::write(&file, "of the user\n").unwrap();
    let link = two.bench.base().join("link");
    symlink(&two.data, &link).unwrap();
    let before = snapshot(&two.data);
    let paths = [
        two.data(""),
        two.data("sub"),
        two.data("kept"),
        two.data("sub/fixed/deep"),
        link.to_str().unwrap().to_owned(),
        file.to_str().unwrap().to_owned(),
        two.bench.project().to_str().unwrap().to_owned(),
    ];
    two.write("sub/fixed/deep/y", "1\n");
    let before_deep = snapshot(&two.data);
    let mut flags: Vec<&str> = paths.iter().flat_map(|path| ["--rw", path]).collect();
    let (fixed, secret) = (two.data("sub/fixed"), two.data("sub/secret"));
    flags.extend(["--ro", &fixed, "--hide", &secret]);
    let script = format!(
        "echo 2 > a; echo more >> $data/kept; echo more >> $data/sub/in; echo at once > {}
         echo no 2>&- >> $data/sub/fixed/x && echo writable; echo 2 > $data/sub/fixed/deep/y; cat $data/sub/secret/x 2>&- && echo seen; true",
        file.display()
    );
    let run = two.cow_with(&flags, &script);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run:?}");
    assert!(
        run.stderr.contains(&format!(
            "changes these at once, because only directories can be kept apart: {}\n",
            file.display()
        )),
        "{run:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "at once\n");
    assert_eq!(snapshot(&two.data), before_deep);
    assert_ne!(before, before_deep);
    assert_eq!(
        two.names(),
        "M\ta\nM\tDATA/kept\nM\tDATA/sub/in\nM\tDATA/sub/fixed/deep/y\n"
    );
    two.ok(&["apply", &two.data("sub")]);
    assert_eq!(two.names(), "M\ta\nM\tDATA/kept\n");
    assert_eq!(two.text("sub/fixed/deep/y"), "2\n");
}

#[test]
fn a_directory_around_the_project_has_its_own_layer_below_that_of_the_project() {
    let two = Two::new("around");
    let inner = two.data.join("project");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("a"), "1\n").unwrap();
    let before = snapshot(&two.data);
    let run = |arguments: &[&str]| {
        said(
            two.bench
                .command(bench::program())
                .current_dir(&inner)
                .args(arguments),
        )
    };
    let ran = run(&[
        "--cow",
        "--rw",
        &two.data(""),
        "run",
        "-n",
        "--",
        "sh",
        "-c",
        "echo 2 > a; echo more >> ../kept; rmdir ../project 2>&- || rm -r ../project 2>&-; mv ../project ../away 2>&-; ls ..",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(snapshot(&two.data), before);
    let names = run(&["diff", "--name-status"]);
    let names = names.stdout.replace(two.data.to_str().unwrap(), "DATA");
    assert_eq!(names, "D\ta\nM\tDATA/kept\n");
    assert_eq!(run(&["apply"]).code, 0);
    assert_eq!(two.text("kept"), "of the user\nmore\n");
    assert!(inner.is_dir() && !inner.join("a").exists());
    assert_eq!(run(&["undo"]).code, 0);
    assert_eq!(snapshot(&two.data), before);
}

#[test]
fn a_later_run_goes_on_with_all_trees_or_with_none() {
    let two = Two::new("continue");
    two.cow(WORK);
    let id = two.ok(&["diff", "--list"]).stdout;
    let id = id.split_whitespace().next().unwrap().to_owned();
    let refused = two
        .bench
        .rcc(&["--continue", &id, "run", "-n", "--", "true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    let why = format!(
        "has changes in {}, which this run may not change",
        two.data.display()
    );
    assert!(refused.stderr.contains(&why), "{refused:?}");
    assert_eq!(two.names(), CHANGED, "nothing is lost by that");
    let third = two.bench.base().join("third");
    std::fs::create_dir(&third).unwrap();
    let script = format!(
        "cat {} new; echo z > {}/z",
        two.data("made/file"),
        third.display()
    );
    let run = two.bench.rcc(&[
        "--continue",
        &id,
        "--rw",
        third.to_str().unwrap(),
        "--rw",
        &two.data(""),
        "run",
        "-n",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "y\nx\n"), "{run:?}");
    assert_eq!(two.bench.layers(), 1);
    let added = format!("{CHANGED}A\t{}/z\n", third.display());
    assert_eq!(two.names(), added);
    two.ok(&["apply"]);
    assert_eq!(std::fs::read_to_string(third.join("z")).unwrap(), "z\n");
    two.ok(&["undo"]);
    assert_eq!(two.names(), added);
}

#[test]
fn a_mount_in_a_further_directory_is_refused_with_the_reason() {
    if !require("unshare") {
        return;
    }
    let two = Two::new("mount");
    let script = format!(
        "mount -t tmpfs none {} && exec {} --cow --rw {} run -n -- true",
        two.data("sub"),
        bench::program().display(),
        two.data.display()
    );
    let refused = two.bench.host("unshare", &["-Urm", "sh", "-c", &script]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("another file system is mounted in it"),
        "{refused:?}"
    );
    assert_eq!(two.bench.layers(), 0);
    // Positive control: a mount beside it is nobody's business.
    let script = script.replacen("data/sub", "outside", 1);
    std::fs::create_dir(two.bench.base().join("outside")).unwrap();
    let run = two.bench.host("unshare", &["-Urm", "sh", "-c", &script]);
    assert_eq!(run.code, 0, "{run:?}");
}

/// Calls at the borders: journals and notes get their names by `renameat`, directories are made by `mkdirat`.
const BORDERS: [&str; 2] = ["renameat", "mkdirat"];

#[test]
fn kill_9_between_two_trees_leaves_old_or_new_and_the_same_command_completes() {
    if !require("strace") {
        return;
    }
    let two = Two::new("kill");
    two.cow(WORK);
    let shell = |script: &str| {
        let said = two.bench.host("sh", &["-ec", script]);
        assert_eq!(said.code, 0, "{script}: {said:?}");
    };
    // Copies are newer than the run; what was there when it began has to look so.
    shell("sed -i 's/\"since\": \\[/\"since\": [9999999999, 0], \"was\": [/' ../state/rcc/runs/*/cow/base.json ../state/rcc/runs/*/cow/rw/1/base.json
        chmod -R u+rwX ../state/rcc/runs/*/cow; mkdir ../copy; cp -a . ../copy/project; cp -a ../data ../state ../copy");
    let reset = || {
        shell(
            "find . ../data -mindepth 1 -delete; rm -rf ../state; cp -a ../copy/project/. .; cp -a ../copy/data/. ../data; cp -a ../copy/state ..; touch -r ../copy/project .; touch -r ../copy/data ../data; sed -i \"s/9999999999, 0/$(date '+%s %N' | sed 's/ 0*/, /; s/, $/, 0/')/\" ../state/rcc/runs/*/cow/base.json ../state/rcc/runs/*/cow/rw/1/base.json",
        );
    };
    let now = || {
        let essence = |root: &Path| -> Vec<(PathBuf, String)> {
            let all = snapshot(root).into_iter();
            all.map(|(path, text)| match text.split_once(" mode ") {
                Some(("directory", _)) => (path, "directory".to_owned()),
                _ => (path, text),
            })
            .collect()
        };
        (essence(&two.bench.project()), essence(&two.data))
    };
    let traced = |command: &str, flags: &[&str]| {
        let mut all = vec!["-qq", "-o", "../trace"];
        all.extend(flags);
        let program = bench::program();
        all.extend(["--", program.to_str().unwrap(), command]);
        two.bench.host("strace", &all)
    };
    reset();
    let before = now();
    two.ok(&["apply"]);
    let after = now();
    assert!(before.0 != after.0 && before.1 != after.1);
    let mut points = 0;
    for command in ["apply", "undo"] {
        let arrange = || {
            reset();
            if command == "undo" {
                two.ok(&["apply"]);
            }
        };
        for call in BORDERS {
            let trace = format!("trace={call}");
            arrange();
            assert_eq!(traced(command, &["-e", &trace]).code, 0);
            let lines = std::fs::read_to_string(two.bench.base().join("trace")).unwrap();
            let count = lines.lines().filter(|line| line.starts_with(call)).count();
            for time in 1..=count {
                arrange();
                let inject = format!("inject={call}:signal=SIGKILL:when={time}");
                let killed = traced(command, &["-e", &trace, "-e", &inject]);
                let moment = format!("{command}, {call} {time} of {count}");
                assert_eq!(killed.code, -1, "{moment}: {killed:?}");
                let again = two.bench.rcc(&[command]);
                // Killed at the very end there is nothing left to do.
                assert!(
                    again.code == 0
                        || again.stderr.contains("no run has changes")
                        || again.stderr.contains("nothing was applied"),
                    "{moment}: {again:?}"
                );
                if command == "apply" {
                    assert_eq!(now(), after, "{moment}");
                    let undone = two.bench.rcc(&["undo"]);
                    assert_eq!(undone.code, 0, "{moment}: {undone:?}");
                }
                // One undo takes back what one apply did, however often that was begun.
                assert_eq!(now(), before, "{moment}");
                points += 1;
            }
        }
    }
    println!("{points} moments");
    assert!(points > 8, "{points}");
}
