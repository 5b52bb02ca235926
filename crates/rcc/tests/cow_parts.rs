//! What copy-on-write runs change besides the content of files, and applying a part of a file: shown as it is, applied as
//! it was chosen, undone to the last bit.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bench::{Bench, snapshot};
use rcc_testkit::require;
use rustix::fs::{XattrFlags, setxattr};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An access list that lets one more user read (`linux/posix_acl_xattr.h`).
fn list(user: u32) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (0x01_u16, 7_u16, u32::MAX),
        (0x02, 4, user),
        (0x04, 0, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn attribute(bench: &Bench, name: &str, attribute: &str, value: &[u8]) {
    setxattr(
        bench.project().join(name),
        attribute,
        value,
        XattrFlags::empty(),
    )
    .unwrap();
}

#[test]
fn changes_of_nothing_but_attributes_modes_and_times_are_shown_applied_and_undone() {
    let bench = Bench::new("looks");
    let me = rustix::process::geteuid().as_raw();
    for name in [
        "noted",
        "listed",
        "bare",
        "dated",
        "mode",
        "untouched",
        "with",
        "d/in",
        "like/x",
    ] {
        bench.file(name, "same\n");
    }
    symlink("dated", bench.project().join("link")).unwrap();
    attribute(&bench, "with", "user.note", b"of the agent\x1b");
    attribute(&bench, "with", ACCESS, &list(me));
    for name in ["noted", "bare", "untouched"] {
        attribute(&bench, name, "user.note", b"of the user");
    }
    // Of somebody else, as only the user can grant it.
    attribute(&bench, "untouched", ACCESS, &list(12_345));
    attribute(&bench, "d", "user.note", b"of the user");
    attribute(&bench, "like", "user.note", b"of the agent");
    attribute(&bench, "like", DEFAULT, &list(me));
    let touch = "find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +";
    assert_eq!(bench.host("sh", &["-c", touch]).code, 0);
    let before = snapshot(&bench.project());

    let output = bench.cow(
        "set -e; cp --attributes-only --preserve=xattr with noted; cp --attributes-only --preserve=mode with listed
         cp --preserve=timestamps bare b; chmod --reference=bare b; mv b bare; touch -d '2002-02-02 02:02:02.2Z' dated; touch -h -d 2003-03-03 link
         chmod 640 mode; cp -r --attributes-only --preserve=xattr,mode like/. d; rm d/x; echo x >> untouched; truncate -s 5 untouched; touch -d '2001-02-03 04:05:06.789' untouched",
    );
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(snapshot(&bench.project()), before);

    let names = bench.rcc(&["diff", "--name-status"]);
    assert_eq!(
        names.stdout,
        "M\tbare\t(attributes only)\nM\td/\t(attributes only)\nM\tdated\t(times only)\nM\tlink\t(times only)\nM\tlisted\nM\tmode\nM\tnoted\t(attributes only)\n",
        "{names:?}"
    );
    let text = bench.rcc(&["diff"]).stdout;
    for line in [
        "old user.note: of the user\nnew user.note: of the agent\\u{1b}\n",
        &format!("new access list: user::rwx,user:{me}:r--,group::---,mask::r--,other::---\n"),
        &format!("new default access list: user::rwx,user:{me}:r--,"),
        "new time 2002-02-02T02:02:02.200Z\n",
        "old file mode 0644\nnew file mode 0640\n",
        "diff --rcc a/bare b/bare\nold user.note: of the user\ndiff",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json = bench.rcc(&["diff", "--json", "bare"]).stdout;
    assert!(json.contains(r#""differs":["attributes"]"#), "{json}");
    let stat = bench.rcc(&["diff", "--stat", "dated"]).stdout;
    assert_eq!(stat, " M dated | +0 -0, times\n");

    for _ in 0..2 {
        let applied = bench.rcc(&["apply"]);
        assert_eq!(applied.code, 0, "{applied:?}");
        let after = snapshot(&bench.project());
        let has = |name: &str, part: &str| {
            let text = &after[&bench.project().join(name)];
            assert!(text.contains(part), "{name}: {text}");
        };
        has(
            "noted",
            r#"{"user.note": [111, 102, 32, 116, 104, 101, 32, 97, "#,
        );
        has("listed", ACCESS);
        has("bare", "attributes {}");
        has("dated", " at 1012615322.200000000 ");
        has("mode", " mode 100640 ");
        has(
            "d",
            r#""user.note": [111, 102, 32, 116, 104, 101, 32, 97, "#,
        );
        has("d", DEFAULT);
        assert_eq!(
            after[&bench.project().join("untouched")],
            before[&bench.project().join("untouched")]
        );
        // The layer and the project are one now.
        let list = bench.rcc(&["diff", "--list"]);
        assert!(list.stdout.is_empty(), "{list:?}");

        let undone = bench.rcc(&["undo"]);
        assert_eq!(undone.code, 0, "{undone:?}");
        assert_eq!(snapshot(&bench.project()), before);
    }
}

/// A new file in a directory with a default access list gets one at its making, which an exact copy has not.
#[test]
fn access_lists_that_a_directory_gives_do_not_stay_on_what_is_applied_or_undone() {
    let bench = Bench::new("inherited");
    bench.file("d/old", "1\n");
    bench.file("d/gone", "1\n");
    attribute(&bench, "d", DEFAULT, &list(12_345));
    let before = snapshot(&bench.project());
    // Positive control: a careless new file gets it.
    bench.file("d/control", "1\n");
    assert!(snapshot(&bench.project())[&bench.project().join("d/control")].contains(ACCESS));
    std::fs::remove_file(bench.project().join("d/control")).unwrap();

    assert_eq!(bench.cow("rm d/gone; echo 2 >> d/old").code, 0);
    assert_eq!(bench.rcc(&["apply"]).code, 0);
    let after = snapshot(&bench.project());
    assert!(after[&bench.project().join("d/old")].contains("attributes {}"));
    assert_eq!(bench.rcc(&["undo"]).code, 0);
    let restored = snapshot(&bench.project());
    for name in ["d/old", "d/gone"] {
        let path = bench.project().join(name);
        assert_eq!(restored[&path], before[&path]);
    }
}

/// What is inside can name nobody but its own user in an access list, and no capability it sets reaches the project.
#[test]
fn an_agent_grants_nobody_else_anything() {
    let bench = Bench::new("grants");
    let me = rustix::process::geteuid().as_raw();
    bench.file("a", "1\n");
    bench.file("foreign", "1\n");
    bench.file("own", "1\n");
    attribute(&bench, "foreign", ACCESS, &list(12_345));
    attribute(&bench, "own", ACCESS, &list(me));
    let copy = |from: &str| format!("cp --attributes-only --preserve=mode {from} a");
    bench.cow(&copy("foreign"));
    bench.rcc(&["apply"]);
    let text = snapshot(&bench.project())[&bench.project().join("a")].clone();
    assert!(!text.contains(ACCESS), "{text}");
    // Positive control.
    let output = bench.cow(&copy("own"));
    assert_eq!(output.code, 0, "{output:?}");
    let applied = bench.rcc(&["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    let text = snapshot(&bench.project())[&bench.project().join("a")].clone();
    assert!(text.contains(ACCESS), "{text}");
}

/// A command that talks to somebody at a terminal.
struct Talk {
    child: Child,
    terminal: File,
    shown: String,
}

impl Talk {
    fn start(command: &mut Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let child = command
            .stdin(OwnedFd::from(slave.try_clone().unwrap()))
            .stderr(OwnedFd::from(slave))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Only the child has the terminal open now, so reading ends when it does.
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Self {
            child,
            terminal: File::from(master),
            shown: String::new(),
        }
    }

    /// Reads until a question is asked.
    fn until(&mut self, text: &str) {
        let mut part = [0_u8; 4096];
        while !self.shown.contains(text) {
            let read = self.terminal.read(&mut part).unwrap();
            self.shown
                .push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
    }

    fn answer(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = Vec::new();
        // EIO is how a terminal says that nobody is at its other end.
        let _ = self.terminal.read_to_end(&mut rest);
        self.shown.push_str(std::str::from_utf8(&rest).unwrap());
        (self.child.wait().unwrap().code(), self.shown)
    }
}

/// `rcc apply --patch` with these answers, each a key, and what was shown.
fn pick(bench: &Bench, keys: &str) -> (Option<i32>, String) {
    let mut command = bench.command(bench::program());
    let mut talk = Talk::start(command.args(["apply", "-p"]).env("NO_COLOR", "1"));
    for key in keys.chars() {
        talk.answer(&format!("{key}\n"));
    }
    // The end of the conversation, should more be asked than is expected.
    talk.answer("\u{4}");
    talk.end()
}

fn lines() -> String {
    (1..=30).map(|line| format!("{line}\n")).collect()
}

const HUNKS: &str = "set -e
sed -i 's/^3$/three/; s/^6$/six/; s/^25$/twenty-five/' text; chmod 755 text
printf 'a\\0c' > binary; rm gone; ln -sfn text link; echo new > new";

fn project(bench: &Bench) {
    bench.file("text", lines());
    bench.file("binary", "a\0b");
    bench.file("gone", "user\n");
    symlink("gone", bench.project().join("link")).unwrap();
    attribute(bench, "text", "user.note", b"of the user");
    let touch = "find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +";
    assert_eq!(bench.host("sh", &["-c", touch]).code, 0);
}

#[test]
fn changes_and_hunks_are_chosen_one_by_one_and_the_rest_waits() {
    let bench = Bench::new("hunks");
    project(&bench);
    let before = snapshot(&bench.project());
    assert_eq!(bench.cow(HUNKS).code, 0);

    // binary yes, gone no, link yes, new no; of the text neither mode nor attributes, of the first hunk one half, the second.
    let (code, shown) = pick(&bench, "ynynnnsyny");
    assert_eq!(code, Some(0), "{shown}");
    for text in [
        "binary: 3 bytes -> 3 bytes",
        "Apply this change? [y,n,q,a,d,?] binary: ",
        "Apply this removal? [y,n,q,a,d,?] gone: ",
        "Apply this addition? [y,n,q,a,d,?] new: ",
        "Apply the change of its mode? [y,n,q,a,d,?] text: ",
        "(1/2) Apply this hunk? [y,n,q,a,d,s,?] text: ",
        "(1/3) Apply this hunk? [y,n,q,a,d,?] text: ",
        "(3/3) Apply this hunk? [y,n,q,a,d,?] text: ",
        "+twenty-five",
        "applied 3 entries",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let chosen = lines()
        .replace("\n3\n", "\nthree\n")
        .replace("\n25\n", "\ntwenty-five\n");
    assert_eq!(bench.text("text"), chosen);
    let after = &snapshot(&bench.project())[&bench.project().join("text")];
    assert!(
        after.contains(" mode 100644 ") && after.contains("user.note"),
        "{after}"
    );

    // What was not chosen waits, and is shown against what is there now.
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert_eq!(names, "D\tgone\nA\tnew\nM\ttext\n");
    let text = bench.rcc(&["diff", "text"]).stdout;
    assert!(
        text.contains("-6\n+six\n") && !text.contains("three\n-"),
        "{text}"
    );
    assert!(
        !text.contains("+three") && !text.contains("+twenty-five"),
        "{text}"
    );
    let (code, shown) = pick(&bench, "yna");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(bench.text("text"), chosen.replace("\n6\n", "\nsix\n"));
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert_eq!(names, "A\tnew\n");
    assert_eq!(bench.rcc(&["apply"]).code, 0);
    assert!(bench.rcc(&["diff", "--list"]).stdout.is_empty());

    for _ in 0..3 {
        let undone = bench.rcc(&["undo"]);
        assert_eq!(undone.code, 0, "{undone:?}");
    }
    assert_eq!(snapshot(&bench.project()), before);
    // The changes wait again.
    let (code, shown) = pick(&bench, "nnnna");
    assert_eq!(code, Some(0), "{shown}");
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert_eq!(names, "M\tbinary\nD\tgone\nM\tlink\nA\tnew\n");
}

#[test]
fn keys_stop_early_help_and_never_mean_yes_by_mistake() {
    let bench = Bench::new("keys");
    project(&bench);
    let before = snapshot(&bench.project());
    assert_eq!(bench.cow(HUNKS).code, 0);
    for keys in ["q", "x?q", "nd\u{4}", "nnnnd", "nnnnnq", "\u{4}"] {
        let (code, shown) = pick(&bench, keys);
        assert_eq!(code, Some(0), "{shown}");
        assert_eq!(snapshot(&bench.project()), before, "{keys}: {shown}");
        assert_eq!(
            shown.contains("y - apply it"),
            keys.contains('?'),
            "{shown}"
        );
    }
    // What was chosen before the end is applied.
    let (code, shown) = pick(&bench, "yq");
    assert_eq!(code, Some(0), "{shown}");
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert_eq!(names, "D\tgone\nM\tlink\nA\tnew\nM\ttext\n");
    let refused = bench.rcc(&["apply", "--patch"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("there is no terminal to ask on"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("rcc apply PATH"), "{refused:?}");
}

#[test]
fn changes_of_further_directories_are_asked_about_like_those_of_the_project() {
    let bench = Bench::new("further");
    bench.file("a", "1\n");
    let data = bench.base().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("kept"), "1\n").unwrap();
    let data = data.to_str().unwrap();
    let script = format!("echo 2 > a; echo 2 > {data}/kept; echo x > {data}/new");
    let run = bench.rcc(&[
        "run", "-n", "--cow", "--rw", data, "--", "sh", "-c", &script,
    ]);
    assert_eq!(run.code, 0, "{run:?}");
    let (code, shown) = pick(&bench, "nyn");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(&format!("{data}/kept: ")), "{shown}");
    let names = bench.rcc(&["diff", "--name-status"]).stdout;
    assert_eq!(names, format!("M\ta\nA\t{data}/new\n"));
    let kept = Path::new(data).join("kept");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "2\n");
}

#[test]
fn questions_cannot_drive_a_terminal_and_tell_what_would_run() {
    let bench = Bench::new("questions");
    bench.file("text", "plain\n");
    bench.file("mine", "1\n");
    let output = bench.cow(
        r#"printf '\033[2Jgone\n' > text; echo x > "$(printf 'a\nb\033[31m')"; echo evil > .envrc; mkdir .vscode; echo evil > .vscode/tasks.json; echo agent > mine; mkfifo fifo"#,
    );
    assert_eq!(output.code, 0, "{output:?}");
    bench.file("mine", "user\n");
    let (code, shown) = pick(&bench, "yynn");
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    for text in [
        "your programs run or obey .envrc",
        "your programs run or obey .vscode/tasks.json",
        "Apply this addition? [y,n,q,a,d,?] a\\u{a}b\\u{1b}[31m: ",
        "+\\u{1b}[2Jgone",
        "held back: fifo (",
        "conflict: mine was changed by you",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(bench.text(".envrc"), "evil\n");
    assert_eq!(bench.text(".vscode/tasks.json"), "evil\n");
    assert_eq!(
        (bench.text("text"), bench.text("mine")),
        ("plain\n".into(), "user\n".into())
    );
}

#[test]
fn directories_go_with_the_last_that_was_in_them() {
    let bench = Bench::new("directories");
    for name in ["d/a", "d/b", "e/deep/a", "was/x", "was/y"] {
        bench.file(name, "1\n");
    }
    let before = snapshot(&bench.project());
    let work = "rm -r d e was; echo file > was; mkdir -p new/empty; echo x > new/f";
    assert_eq!(bench.cow(work).code, 0);
    // d/a, d/b, e/deep/a, new/empty, new/f, was.
    let (code, shown) = pick(&bench, "ynyyny");
    assert_eq!(code, Some(0), "{shown}");
    let exists = |name: &str| bench.project().join(name).exists();
    assert!(!exists("d/a") && exists("d/b") && !exists("e"), "{shown}");
    assert!(exists("new/empty") && !exists("new/f"), "{shown}");
    assert_eq!(bench.text("was"), "file\n", "{shown}");
    let (code, shown) = pick(&bench, "yy");
    assert_eq!(code, Some(0), "{shown}");
    assert!(!exists("d") && exists("new/f"), "{shown}");
    assert!(bench.rcc(&["diff", "--list"]).stdout.is_empty());
    for _ in 0..2 {
        assert_eq!(bench.rcc(&["undo"]).code, 0);
    }
    assert_eq!(snapshot(&bench.project()), before);
}

#[test]
fn what_the_user_writes_while_a_question_waits_is_kept() {
    let bench = Bench::new("waits");
    for name in ["a", "b"] {
        bench.file(name, lines());
    }
    assert_eq!(bench.cow("sed -i 's/^3$/x/; s/^20$/y/' a b").code, 0);
    let mut command = bench.command(bench::program());
    let mut talk = Talk::start(command.args(["apply", "-p"]));
    talk.until("Apply this hunk?");
    bench.file("a", "user\n");
    talk.answer("y\nn\ny\ny\n\u{4}");
    let (code, shown) = talk.end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("conflict: a was changed by you"), "{shown}");
    assert_eq!(
        (bench.text("a"), bench.text("b")),
        ("user\n".into(), lines())
    );
    // Positive control.
    let (code, shown) = pick(&bench, "yy");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(
        bench.text("b"),
        lines().replace("\n3\n", "\nx\n").replace("\n20\n", "\ny\n")
    );
}

#[test]
fn kill_9_while_parts_are_applied_leaves_old_or_new() {
    if !require("strace") {
        return;
    }
    let bench = Bench::new("killed");
    project(&bench);
    let before = snapshot(&bench.project());
    assert_eq!(bench.cow(HUNKS).code, 0);
    let chosen = lines().replace("\n3\n", "\nthree\n");
    let mut points = 0;
    for call in [
        "renameat",
        "renameat2",
        "unlinkat",
        "fchmod",
        "fsync",
        "pwrite64",
        "fsetxattr",
        "utimensat",
    ] {
        for time in 1.. {
            let mut command = bench.command("strace");
            let inject = format!("inject={call}:signal=SIGKILL:when={time}");
            let trace = format!("trace={call}");
            command.args(["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "--"]);
            let mut talk = Talk::start(command.arg(bench::program()).args(["apply", "-p"]));
            talk.answer("n\nn\nn\nn\nn\nn\ns\ny\nd\n\u{4}");
            let (code, shown) = talk.end();
            let text = bench.text("text");
            assert!(text == lines() || text == chosen, "{call} {time}: {text}");
            let ended = code == Some(0);
            assert!(ended || code.is_none(), "{call} {time}: {shown}");
            points += usize::from(!ended);
            // What was begun is finished, and nothing else.
            let (code, shown) = pick(&bench, "q");
            assert_eq!(code, Some(0), "{call} {time}: {shown}");
            let text = bench.text("text");
            assert!(text == lines() || text == chosen, "{call} {time}: {text}");
            assert!(!bench.project().join("new").exists());
            let applied = text == chosen;
            assert!(applied || !ended, "{call} {time}");
            let undone = bench.rcc(&["undo"]);
            assert_eq!(undone.code, if applied { 0 } else { 125 }, "{undone:?}");
            assert_eq!(snapshot(&bench.project()), before, "{call} {time}");
            if ended {
                break;
            }
        }
    }
    println!("{points} moments");
    assert!(points > 10, "{points}");
}
