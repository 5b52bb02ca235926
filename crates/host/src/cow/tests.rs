//! Applies, snapshots and undos on small trees, without a sandbox: what no whole run could show in a short time.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::apply::apply_within;
use super::journal::PathRoom;
use super::snapshot::close_within;
use super::*;
use crate::{Discovery, Project};

/// A project, and the record of a run over it.
struct Place {
    base: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let base = std::env::temp_dir().join(format!("rcc-cow-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("project")).unwrap();
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700).create(base.join("record")).unwrap();
        let base = std::fs::canonicalize(base).unwrap();
        Self { base }
    }

    fn project(&self) -> PathBuf {
        self.base.join("project")
    }

    fn record(&self) -> PathBuf {
        self.base.join("record")
    }

    fn directory(&self, path: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).unwrap()
    }

    fn as_project(&self) -> Project {
        let root = self.project();
        let status = root.metadata().unwrap();
        Project {
            identity: rcc_plan::FileIdentity {
                device: status.dev(),
                inode: status.ino(),
            },
            cwd: root.clone(),
            discovery: Discovery::Named,
            directory: self.directory(&root),
            root,
        }
    }

    /// A layer in which the agent wrote these files.
    fn layer(&self, files: &[&str]) -> Layers {
        let project = self.as_project();
        let record = self.directory(&self.record());
        use std::os::fd::AsFd as _;
        let root = Root {
            path: &project.root,
            directory: project.directory.as_fd(),
        };
        let layers = Layers::create(record.as_fd(), &self.record(), root).unwrap();
        for name in files {
            let upper = layers.project().path().join("upper");
            write(&upper.join(name), "of the agent\n");
        }
        layers
    }

    fn snapshot(&self) {
        use std::os::fd::AsFd as _;
        let record = self.directory(&self.record());
        let request = SnapshotRequest {
            skipped: &[],
            limit_bytes: 1 << 30,
            interrupted: &|| false,
        };
        let project = self.as_project();
        take(record.as_fd(), &self.record(), &project, &request).unwrap();
    }

    fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.project().join(name)).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Nothing is ever the host's here.
fn guarded(_: &Path) -> bool {
    false
}

const DEEP: &str = "deep/deep/deep/deep/deep/deep/file";

#[test]
fn an_apply_whose_paths_are_too_long_changes_nothing_and_a_part_of_it_can_be_applied() {
    let place = Place::new("long-apply");
    write(&place.project().join("a"), "of the user\n");
    let mut layer = place.layer(&["a", DEEP]);
    let mut try_with = |limit_bytes, paths: &[&str]| {
        let choice = Choice {
            paths: paths.iter().map(PathBuf::from).collect(),
            // Written a moment ago by this very test.
            overwrite: vec![PathBuf::from("a")],
            picks: None,
        };
        let room = PathRoom::of(limit_bytes);
        let choices = [Some(choice)];
        apply_within(&room, &mut layer, &place.record(), &choices, &guarded)
    };
    let refused = try_with(100, &[]);
    assert!(
        matches!(&refused, Err(CowError::LongPaths { path, levels, .. })
            if *path == place.project().join("deep") && *levels == 7),
        "{refused:?}"
    );
    assert_eq!(place.text("a").as_deref(), Some("of the user\n"));
    assert!(!place.project().join("deep").exists());
    assert!(!place.record().join("undo").exists(), "nothing was planned");
    // Positive controls: a part of it, and with more room all of it; both are taken back.
    assert_eq!(try_with(100, &["a"]).unwrap().applied, 1);
    assert_eq!(place.text("a").as_deref(), Some("of the agent\n"));
    assert_eq!(try_with(200, &[]).unwrap().applied, 7);
    assert_eq!(place.text(DEEP).as_deref(), Some("of the agent\n"));
    for _ in 0..2 {
        let undone = undo(&place.record(), Afterwards::Redo).unwrap().unwrap();
        assert_eq!(undone.conflicts, [] as [&Path; 0]);
    }
    assert_eq!(place.text("a").as_deref(), Some("of the user\n"));
    assert!(!place.project().join("deep").exists());
}

#[test]
fn a_snapshot_stays_when_what_differs_has_paths_too_long_and_is_used_when_they_are_gone() {
    let place = Place::new("long-snapshot");
    write(&place.project().join("a"), "of the user\n");
    place.snapshot();
    write(&place.project().join("a"), "of the agent\n");
    write(&place.project().join(DEEP), "of the agent\n");
    let refused = close_within(PathRoom::of(100), &place.record());
    assert!(
        matches!(refused, Err(CowError::LongPaths { levels: 7, .. })),
        "{refused:?}"
    );
    assert_eq!(held(&place.record()).unwrap(), Some(Held::Snapshot));
    assert_eq!(place.text(DEEP).as_deref(), Some("of the agent\n"));
    // Positive control: what the message advises.
    std::fs::remove_dir_all(place.project().join("deep")).unwrap();
    let closed = close_within(PathRoom::of(100), &place.record()).unwrap();
    assert_eq!(closed.unwrap().changed, 1);
    assert_eq!(
        undo(&place.record(), Afterwards::Redo)
            .unwrap()
            .unwrap()
            .restored,
        1
    );
    assert_eq!(place.text("a").as_deref(), Some("of the user\n"));
}

#[test]
fn a_file_of_many_names_is_one_file_again_and_its_journal_does_not_grow_with_their_square() {
    let place = Place::new("names");
    let names: Vec<PathBuf> = (0..200)
        .map(|number| place.project().join(format!("name-{number}")))
        .collect();
    write(&names[0], "of the user\n");
    for name in &names[1..] {
        std::fs::hard_link(&names[0], name).unwrap();
    }
    place.snapshot();
    std::fs::remove_file(&names[7]).unwrap();
    write(&names[0], "of the agent\n");
    assert_eq!(close(&place.record()).unwrap().unwrap().changed, 200);
    let journal = place.record().join("undo/1/journal.json");
    let length = journal.metadata().unwrap().len();
    assert!(length < 200 * 1200, "{length}");
    assert_eq!(
        undo(&place.record(), Afterwards::Redo)
            .unwrap()
            .unwrap()
            .restored,
        200
    );
    let inode = names[0].metadata().unwrap().ino();
    for name in &names {
        assert_eq!(std::fs::read_to_string(name).unwrap(), "of the user\n");
        assert_eq!(name.metadata().unwrap().ino(), inode, "{}", name.display());
    }
}

/// Every kind of entry, in the project.
fn fill(place: &Place) {
    let project = place.project();
    for name in [
        "kept",
        "gone/deep/b",
        "removed",
        "to-directory",
        "holder/x",
        "mode",
    ] {
        write(&project.join(name), &format!("{name} of the user\n"));
    }
    std::os::unix::fs::symlink("kept", project.join("link")).unwrap();
    std::fs::hard_link(project.join("kept"), project.join("kept-too")).unwrap();
    shell(
        &project,
        "find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +",
    );
}

/// What an agent does to all of it.
const WORK: &str = "set -e
echo more >> kept; rm removed; rm -r gone; chmod 700 mode; rm to-directory; mkdir to-directory; echo x > to-directory/in
rm -r holder; echo x > holder; ln -sfn /etc/passwd link; mkdir -p new/deep; echo x > new/deep/file; ln new/deep/file new/too
chmod 750 new; chmod 711 .; find new -exec touch -d '2002-03-04 05:06:07.891' {} +";

fn shell(directory: &Path, script: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(directory)
        .status();
    assert!(status.unwrap().success(), "{script}");
}

/// Everything about every entry of the project that a user could tell.
fn look(place: &Place) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![place.project()];
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() {
            std::fs::read_to_string(&path).unwrap()
        } else {
            std::fs::read_link(&path).map_or_else(|_| String::new(), |to| to.display().to_string())
        };
        let (links, size) = match meta.is_dir() {
            true => (0, 0),
            false => (meta.nlink(), meta.size()),
        };
        found.push(format!(
            "{} {:o} {links} {size} {}.{:09} {content}",
            path.display(),
            meta.mode(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn there_and_back(place: &Place, before: &[String], after: &[String]) {
    let record = place.record();
    for _ in 0..3 {
        assert_eq!(redo(&record).unwrap().map(|done| done.restored), None);
        let undone = undo(&record, Afterwards::Redo).unwrap().unwrap();
        assert_eq!((undone.conflicts, undone.lost), (vec![], vec![]));
        assert_eq!(look(place), before);
        let again = undo(&record, Afterwards::Redo).unwrap();
        assert!(again.is_none(), "{again:?}");
        let redone = redo(&record).unwrap().unwrap();
        assert_eq!((redone.conflicts, redone.lost), (vec![], vec![]));
        assert_eq!(look(place), after);
    }
}

#[test]
fn what_a_direct_run_changed_goes_and_comes_again_to_the_last_bit_and_takes_room_once() {
    let place = Place::new("redo-direct");
    fill(&place);
    let before = look(&place);
    place.snapshot();
    shell(&place.project(), WORK);
    let after = look(&place);
    assert_ne!(before, after);
    close(&place.record()).unwrap();
    assert_eq!(held(&place.record()).unwrap(), Some(Held::Changes));
    there_and_back(&place, &before, &after);
    assert_eq!(held(&place.record()).unwrap(), Some(Held::Changes));
    let shown = direct_changes(&place.record()).unwrap().unwrap();
    assert!(
        shown.changes.iter().all(|change| !change.since),
        "{shown:?}"
    );
    let kept = shown
        .changes
        .iter()
        .find(|change| change.path == Path::new("kept"));
    let old = shown.before(kept.unwrap());
    assert!(
        matches!(&old, Some(Content::Text(text)) if text == "kept of the user\n"),
        "{old:?}"
    );
    // Of seven turns one has the old content.
    let copies = std::process::Command::new("grep")
        .args(["-rlx", "removed of the user"])
        .arg(place.record())
        .output();
    assert_eq!(
        copies.unwrap().stdout.split(|byte| *byte == b'\n').count(),
        2
    );
    undo(&place.record(), Afterwards::Redo).unwrap();
    assert_eq!(held(&place.record()).unwrap(), Some(Held::Undone));
}

#[test]
fn an_undo_that_is_to_keep_nothing_keeps_nothing() {
    let place = Place::new("forget");
    fill(&place);
    let before = look(&place);
    place.snapshot();
    shell(&place.project(), WORK);
    close(&place.record()).unwrap();
    undo(&place.record(), Afterwards::Nothing).unwrap().unwrap();
    assert_eq!(look(&place), before);
    assert!(redo(&place.record()).unwrap().is_none());
    assert!(!place.record().join("undo/2").exists());
}

#[test]
fn applies_are_undone_and_redone_in_their_order_until_another_one_comes() {
    let place = Place::new("redo-apply");
    write(&place.project().join("a"), "of the user\n");
    let mut layer = place.layer(&["a", "b"]);
    let mut applied = |path: &str| {
        let choice = Choice {
            paths: vec![PathBuf::from(path)],
            overwrite: vec![PathBuf::from("a")],
            picks: None,
        };
        apply(&mut layer, &place.record(), &[Some(choice)], &guarded)
            .unwrap()
            .applied
    };
    assert_eq!((applied("a"), applied("b")), (1, 1));
    let record = place.record();
    let texts = || (place.text("a"), place.text("b"));
    let agent = Some("of the agent\n".to_owned());
    let user = Some("of the user\n".to_owned());
    undo(&record, Afterwards::Redo).unwrap().unwrap();
    assert_eq!(texts(), (agent.clone(), None));
    undo(&record, Afterwards::Redo).unwrap().unwrap();
    assert_eq!(texts(), (user.clone(), None));
    redo(&record).unwrap().unwrap();
    assert_eq!(texts(), (agent.clone(), None));
    assert!(
        !Layers::open(&record)
            .unwrap()
            .unwrap()
            .project()
            .base()
            .settled
    );
    redo(&record).unwrap().unwrap();
    assert_eq!(texts(), (agent.clone(), agent.clone()));
    assert!(
        Layers::open(&record)
            .unwrap()
            .unwrap()
            .project()
            .base()
            .settled
    );
    // Redone, it is no conflict with what the user changed.
    undo(&record, Afterwards::Redo).unwrap().unwrap();
    undo(&record, Afterwards::Redo).unwrap().unwrap();
    assert_eq!(texts(), (user, None));
    assert_eq!(applied("a"), 1);
    assert!(
        redo(&record).unwrap().is_none(),
        "something else was applied since"
    );
    assert_eq!(applied("b"), 1);
    assert_eq!(texts(), (agent.clone(), agent));
}

#[test]
fn what_the_user_changed_after_an_undo_is_left_alone_by_the_redo() {
    let place = Place::new("redo-conflict");
    fill(&place);
    place.snapshot();
    shell(&place.project(), WORK);
    close(&place.record()).unwrap();
    undo(&place.record(), Afterwards::Redo).unwrap().unwrap();
    write(&place.project().join("removed"), "of the user, later\n");
    write(
        &place.project().join("new/deep/file"),
        "of the user, later\n",
    );
    let redone = redo(&place.record()).unwrap().unwrap();
    let mut conflicts = redone.conflicts;
    conflicts.sort();
    let expected = ["new/deep/file", "removed"].map(PathBuf::from);
    assert_eq!(conflicts, expected);
    assert_eq!(
        place.text("removed").as_deref(),
        Some("of the user, later\n")
    );
    assert_eq!(
        place.text("new/deep/file").as_deref(),
        Some("of the user, later\n")
    );
    assert_eq!(place.text("new/too").as_deref(), Some("x\n"));
    assert_eq!(
        place.text("kept").as_deref(),
        Some("kept of the user\nmore\n")
    );
}

#[test]
fn an_undo_that_was_interrupted_before_its_last_note_takes_back_nothing_more() {
    let place = Place::new("redo-note");
    fill(&place);
    place.snapshot();
    shell(&place.project(), WORK);
    let after = look(&place);
    close(&place.record()).unwrap();
    for _ in 0..2 {
        undo(&place.record(), Afterwards::Redo).unwrap().unwrap();
        std::fs::remove_file(place.record().join("undo/1/undone")).unwrap();
    }
    assert!(!place.record().join("undo/3").exists());
    redo(&place.record()).unwrap().unwrap();
    assert_eq!(look(&place), after);
    assert!(place.record().join("undo/1/undone").exists());
}
