//! What copy-on-write runs change besides the content of files, and applying a part of a file: shown as it is, applied as
//! it was chosen, undone to the last bit.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::os::unix::fs::symlink;
use std::path::Path;

use bench::{Bench, snapshot};
use rustix::fs::{XattrFlags, setxattr};

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
