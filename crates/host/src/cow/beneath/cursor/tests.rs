//! What is kept of the last look-up shortens the next one, and never leads elsewhere for long.

use std::fs::{create_dir_all, metadata, remove_dir, rename};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use super::super::Tree;
use super::*;

fn world(name: &str) -> (PathBuf, Tree) {
    let path = std::env::temp_dir().join(format!("rcc-cursor-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    create_dir_all(&path).unwrap();
    let tree = Tree::open(&path).unwrap();
    (path, tree)
}

fn inode(tree: &Tree, path: &str) -> Result<u64> {
    let directory = tree.location(Path::new(path))?;
    Ok(rustix::fs::fstat(directory)?.st_ino)
}

#[test]
fn near_and_far_look_ups_open_the_right_directory() {
    let (path, tree) = world("near");
    let deep: PathBuf = std::iter::repeat_n("n", 300).collect();
    create_dir_all(path.join(&deep).join("end")).unwrap();
    create_dir_all(path.join("n/nn/n")).unwrap();
    let right = |wanted: &Path| {
        let found = inode(&tree, wanted.to_str().unwrap()).unwrap();
        let expected = metadata(path.join(wanted)).unwrap().ino();
        assert_eq!(found, expected, "{wanted:?}");
        let descriptors = tree.cursor.borrow().levels.len();
        assert!(descriptors <= KEPT, "{descriptors}");
    };
    let levels: Vec<PathBuf> = deep.ancestors().map(Path::to_owned).collect();
    levels.iter().for_each(|level| right(level));
    levels.iter().rev().for_each(|level| right(level));
    right(&deep.join("end"));
    // A name that only begins like the one that was there last.
    right(Path::new("n/n"));
    right(Path::new("n/nn"));
    right(Path::new("n/nn/n"));
    right(Path::new(""));
    right(&deep);
    for wrong in ["/", "/n", "..", "n/..", "n/../n", "n/n/../n"] {
        assert_eq!(inode(&tree, wrong), Err(Errno::NOENT), "{wrong}");
    }
    // What does not exist leaves the rest of the way usable.
    assert_eq!(inode(&tree, "n/nn/none/n"), Err(Errno::NOENT));
    right(Path::new("n/nn/n"));
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_directory_that_was_exchanged_is_looked_up_again() {
    let (path, tree) = world("exchanged");
    create_dir_all(path.join("a/b/c")).unwrap();
    create_dir_all(path.join("a/other")).unwrap();
    let old = inode(&tree, "a/b").unwrap();
    rename(path.join("a/b"), path.join("a/old")).unwrap();
    assert_eq!(inode(&tree, "a/b"), Err(Errno::NOENT));
    symlink("other", path.join("a/b")).unwrap();
    assert_eq!(inode(&tree, "a/b"), Err(Errno::LOOP));
    std::fs::remove_file(path.join("a/b")).unwrap();
    rename(path.join("a/other"), path.join("a/b")).unwrap();
    assert_ne!(inode(&tree, "a/b").unwrap(), old);
    // The one that is kept is gone, and its name leads to another.
    remove_dir(path.join("a/b")).unwrap();
    create_dir_all(path.join("a/b")).unwrap();
    let now = metadata(path.join("a/b")).unwrap().ino();
    assert_eq!(inode(&tree, "a/b").unwrap(), now);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_directory_above_that_was_exchanged_is_found_out_after_so_many_look_ups() {
    let (path, tree) = world("above");
    create_dir_all(path.join("a/b/c")).unwrap();
    inode(&tree, "a/b/c").unwrap();
    rename(path.join("a"), path.join("old")).unwrap();
    symlink("old", path.join("a")).unwrap();
    let found_out = (0..LOOKUPS).find(|_| inode(&tree, "a/b/c") == Err(Errno::LOOP));
    assert!(found_out.is_some());
    std::fs::remove_dir_all(path).unwrap();
}
