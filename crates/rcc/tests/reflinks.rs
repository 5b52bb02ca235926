//! File systems that share blocks between files (xfs, btrfs): a snapshot there costs no room, and runs are taken back and
//! brought again to the last bit, in both modes. Each is made in a file and mounted in a mount namespace of its own, which
//! takes the mount and the loop device with it. Must not leave either behind.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::path::Path;
use std::process::Command;

use bench::said;
use rcc_testkit::{require, require_that};

/// The file that is large, in bytes.
const LARGE: u64 = 32 << 20;
/// What everything else may take, in bytes: xfs reserves room beyond the end of files, btrfs writes trees in pairs.
const LITTLE: u64 = 16 << 20;
/// What the script says when this kernel mounts no such file.
const NO_MOUNT: i32 = 99;

/// Stands in one namespace from the beginning to the end; each line that it prints is a name and a number or text.
const SCRIPT: &str = r#"
mount -o loop "$IMAGE" "$MOUNT" || exit 99
export HOME=$MOUNT/home XDG_STATE_HOME=$MOUNT/state
unset XDG_DATA_HOME XDG_CONFIG_HOME XDG_RUNTIME_DIR
mkdir -p "$HOME" "$XDG_STATE_HOME" "$MOUNT/project/gone"
cd "$MOUNT/project"
used() { sync -f .; echo "$1 $(df -B1 --output=used . | tail -n 1)"; }
look() {
    find . -printf '%P %y %m %n %s %T@ %l\n' | sort
    find . -type f -exec sha256sum {} + | sort
}
same() { look > ../now; if cmp -s "../$1" ../now; then echo "$2 same"; else diff "../$1" ../now; fi; }
head -c "$LARGE" /dev/urandom > large
echo old | tee small gone/x gone/y > /dev/null
ln small other-name
chmod 640 gone/y
find . -exec touch -d '2001-02-03 04:05:06.789' {} +
look > ../before
WORK='printf agent | dd of=large bs=1 seek=1000000 conv=notrunc status=none; echo more >> small; rm -r gone; echo x > new'

used at-first
"$RCC" run -n --snapshot -- sh -ec "sync -f .; df -B1 --output=used . | tail -n 1 | sed 's/^/with-snapshot /'; $WORK"
look > ../after
used after-run
"$RCC" diff --name-status | sed 's/^/diff /'
"$RCC" undo
same before undone
"$RCC" redo
same after redone
"$RCC" undo
same before undone-again
used after-undos
# Positive control: what a copy takes is seen.
cp --reflink=never large ../copy
used with-copy
rm ../copy

"$RCC" run -n --cow -- sh -ec "$WORK"
same before apart
"$RCC" apply
same after applied | grep -v '^[<>] .* [0-9.]* $' || true
look > ../applied
"$RCC" undo
same before apply-undone
"$RCC" redo
same applied apply-redone
used at-last
"#;

fn share(kind: &str, make: &[&str]) {
    let base = std::env::temp_dir().join(format!("rcc-reflinks-{kind}-{}", std::process::id()));
    let _gone = Gone(&base);
    let (image, mount) = (base.join("image"), base.join("mount"));
    std::fs::create_dir_all(&mount).unwrap();
    // Sparse: mkfs.xfs makes nothing smaller than 300 MiB.
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(400 << 20).unwrap();
    let made = said(Command::new(make[0]).args(&make[1..]).arg(&image));
    assert_eq!(made.code, 0, "{made:?}");

    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec", SCRIPT])
        .env("IMAGE", &image)
        .env("MOUNT", &mount)
        .env("LARGE", LARGE.to_string())
        .env("RCC", bench::program());
    let output = said(&mut command);
    if !require_that(&format!("mounting-{kind}"), output.code != NO_MOUNT) {
        return;
    }
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output
            .stderr
            .contains("shared with the project by the file system"),
        "{output:?}"
    );
    let lines: Vec<&str> = output.stdout.lines().collect();
    for line in [
        "diff M\tlarge",
        "diff D\tgone/x",
        "undone same",
        "redone same",
        "undone-again same",
        "apart same",
        "apply-undone same",
        "apply-redone same",
    ] {
        assert!(lines.contains(&line), "{line}: {output:?}");
    }
    let used = |name: &str| -> u64 {
        let mut values = lines.iter().filter_map(|line| line.split_once(' '));
        let value = values.find(|(key, _)| *key == name);
        value
            .unwrap_or_else(|| panic!("{name}: {output:?}"))
            .1
            .trim()
            .parse()
            .unwrap()
    };
    let first = used("at-first");
    for name in ["with-snapshot", "after-run", "after-undos"] {
        assert!(used(name) < first + LITTLE, "{name}: {output:?}");
    }
    assert!(
        used("with-copy") > used("after-undos") + LARGE - (1 << 20),
        "{output:?}"
    );
}

/// Removes a directory at the end; the mount in it ended with its namespace.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}

#[test]
fn snapshots_on_xfs_share_blocks_and_are_undone_to_the_last_bit() {
    if require("root") && require("unshare") && require("mkfs.xfs") {
        share("xfs", &["mkfs.xfs", "-q"]);
    }
}

#[test]
fn snapshots_on_btrfs_share_blocks_and_are_undone_to_the_last_bit() {
    if require("root") && require("unshare") && require("mkfs.btrfs") {
        share("btrfs", &["mkfs.btrfs", "-q"]);
    }
}
