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
    fn layer(&self, files: &[&str]) -> Layer {
        let project = self.as_project();
        let record = self.directory(&self.record());
        use std::os::fd::AsFd as _;
        let layer = Layer::create(record.as_fd(), &self.record(), &project).unwrap();
        for name in files {
            write(&layer.path().join("upper").join(name), "of the agent\n");
        }
        layer
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
        apply_within(room, &mut layer, &place.record(), &choice, &guarded)
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
        let undone = undo(&place.record()).unwrap().unwrap();
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
    assert_eq!(undo(&place.record()).unwrap().unwrap().restored, 1);
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
    assert_eq!(undo(&place.record()).unwrap().unwrap().restored, 200);
    let inode = names[0].metadata().unwrap().ino();
    for name in &names {
        assert_eq!(std::fs::read_to_string(name).unwrap(), "of the user\n");
        assert_eq!(name.metadata().unwrap().ino(), inode, "{}", name.display());
    }
}
