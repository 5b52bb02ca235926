//! Resets of homes that agents made hostile, that runs use, and that were interrupted.

use super::*;
use crate::import::agent_home;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn world(name: &str) -> (PathBuf, Directories) {
    let path = std::env::temp_dir().join(format!("rcc-homes-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    let directories = Directories::from_environment(&BTreeMap::new(), &path);
    (path, directories)
}

fn left(directories: &Directories) -> Vec<OsString> {
    names(&top(directories)).unwrap()
}

#[test]
fn a_reset_home_is_imported_again() {
    let (base, directories) = world("again");
    std::fs::write(base.join("login"), "secret").unwrap();
    let paths = [PathBuf::from("login")];
    let first = agent_home(&directories, "x", &base, &paths).unwrap();
    assert_eq!(first.imported.copied, paths);
    let note = imported(&directories, "x").unwrap().unwrap();
    assert_eq!(note.copied, [SafeBytes::from("login")]);
    drop(first);
    std::fs::write(directories.agent_home("x").join("login"), "spoilt").unwrap();

    reset(&directories, "x").unwrap();

    assert!(left(&directories).is_empty());
    assert!(imported(&directories, "x").unwrap().is_none());
    let second = agent_home(&directories, "x", &base, &paths).unwrap();
    assert_eq!(second.imported.copied, paths);
    let login = std::fs::read_to_string(second.path.join("login"));
    assert_eq!(login.unwrap(), "secret");
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn a_home_in_use_is_not_reset() {
    let (base, directories) = world("use");
    let paths = [PathBuf::from("login")];
    let one = agent_home(&directories, "x", &base, &paths).unwrap();
    let two = agent_home(&directories, "x", &base, &paths).unwrap();
    std::fs::write(one.path.join("file"), "").unwrap();
    let refused = || {
        let answer = reset(&directories, "x");
        assert!(matches!(answer, Err(HomeError::InUse { .. })), "{answer:?}");
        assert!(directories.agent_home("x").join("file").exists());
    };
    refused();
    drop(one);
    refused();
    // Another home is none of theirs.
    drop(agent_home(&directories, "y", &base, &paths).unwrap());
    reset(&directories, "y").unwrap();
    drop(two);
    reset(&directories, "x").unwrap();
    assert!(left(&directories).is_empty());
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
    let (base, directories) = world("copy");
    let used = agent_home(&directories, "x", &base, &[]).unwrap();
    // As a child has it between fork(2) and execve(2).
    let copy = used.lock.0.try_clone().unwrap();
    let answer = reset(&directories, "x");
    assert!(matches!(answer, Err(HomeError::InUse { .. })), "{answer:?}");
    drop(used);
    reset(&directories, "x").unwrap();
    drop(copy);
    std::fs::remove_dir_all(base).unwrap();
}

/// What an agent can leave in its home: links out, closed directories, depth beyond any path, and names of its own.
#[test]
fn a_hostile_home_is_measured_and_removed_and_nothing_else_is() {
    let (base, directories) = world("hostile");
    let outside = base.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "kept").unwrap();
    let made = agent_home(&directories, "x", &base, &[]).unwrap().path;
    symlink(&outside, made.join("link")).unwrap();
    symlink("/", made.join(".removing-0-x")).unwrap();
    std::fs::create_dir_all(made.join("closed/inner")).unwrap();
    symlink(&outside, made.join("closed/inner/link")).unwrap();
    std::fs::hard_link(outside.join("file"), made.join("second name")).unwrap();
    let odd = OsStr::from_bytes(b"\x1b]0;title\x07\nnew\xff");
    std::fs::write(made.join(odd), vec![1; 100_000]).unwrap();
    let mode = || Mode::RWXU;
    rustix::fs::mknodat(CWD, made.join("fifo"), FileType::Fifo, mode(), 0).unwrap();
    let name = "d".repeat(250);
    let mut at = rustix::fs::openat(CWD, &made, OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..100 {
        rustix::fs::mkdirat(&at, &name, mode()).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(made.join("closed"), closed.clone()).unwrap();

    let found = home(&directories, "x").unwrap();
    let held = size(&found).unwrap();
    assert!(held.entries >= 106 && !held.stopped, "{held:?}");
    assert!((100_000..2_000_000).contains(&held.bytes), "{held:?}");

    std::fs::set_permissions(&made, closed).unwrap();
    reset(&directories, "x").unwrap();
    assert!(left(&directories).is_empty());
    let kept = std::fs::read_to_string(outside.join("file"));
    assert_eq!(kept.unwrap(), "kept");
    std::fs::remove_dir_all(base).unwrap();
}

/// Paths of 50 kB each, and so many directories at the end that all of them would take 70 MB.
#[test]
fn many_directories_far_down_do_not_take_the_memory() {
    let (base, directories) = world("far");
    let made = agent_home(&directories, "x", &base, &[]).unwrap().path;
    let name = "d".repeat(250);
    let mut at = rustix::fs::openat(CWD, &made, OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..200 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let make = |count: std::ops::Range<u32>| {
        for number in count {
            rustix::fs::mkdirat(&at, number.to_string(), Mode::RWXU).unwrap();
        }
    };
    make(0..700);
    let found = home(&directories, "x").unwrap();
    let held = size(&found).unwrap();
    assert!(held.entries == 900 && !held.stopped, "{held:?}");
    make(700..1400);
    let held = size(&found).unwrap();
    assert!(held.entries < 1600 && held.stopped, "{held:?}");
    reset(&directories, "x").unwrap();
    assert!(left(&directories).is_empty());
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn an_interrupted_reset_is_finished_by_the_next() {
    let (base, directories) = world("interrupted");
    for name in ["x", "y"] {
        let home = agent_home(&directories, name, &base, &[]).unwrap().path;
        std::fs::write(home.join("file"), "").unwrap();
        // As a reset that was killed after its renaming left it.
        let away = format!("{REMOVING}0-{name}");
        std::fs::rename(&home, home.with_file_name(away)).unwrap();
    }
    let listed = homes(&directories).unwrap();
    assert!(listed.is_empty(), "{listed:?}");
    reset(&directories, "x").unwrap();
    assert!(left(&directories).is_empty());
    let again = reset(&directories, "x");
    assert!(matches!(again, Err(HomeError::Unknown { .. })), "{again:?}");
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn names_that_leave_the_directory_reach_nothing() {
    let (base, directories) = world("names");
    drop(agent_home(&directories, "x", &base, &[]).unwrap());
    std::fs::create_dir(top(&directories).join(".hidden")).unwrap();
    for name in [
        "",
        ".",
        "..",
        "../homes/x",
        "x/",
        "/",
        ".hidden",
        "-x",
        "a\nb",
    ] {
        let refused = |answer: Result<(), HomeError>| {
            assert!(
                matches!(answer, Err(HomeError::Name { .. })),
                "{name:?} {answer:?}"
            );
        };
        refused(reset(&directories, name));
        refused(home(&directories, name).map(|_| ()));
        refused(imported(&directories, name).map(|_| ()));
    }
    assert_eq!(left(&directories).len(), 2);
    // A link in the home's place, the user's own doing, is removed and not followed.
    let outside = base.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "").unwrap();
    symlink(&outside, directories.agent_home("linked")).unwrap();
    reset(&directories, "linked").unwrap();
    assert!(outside.join("file").exists());
    std::fs::remove_dir_all(base).unwrap();
}
