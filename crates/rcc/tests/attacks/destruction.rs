//! The last resort of a mad agent: `rm -rf --no-preserve-root /`.
//!
//! Must never be able to harm the machine, whatever the sandbox does: everything runs below a seat belt, a mount
//! namespace in which all but the scene's own directory is read-only, and which refuses to start when it is not.

use std::path::Path;

use crate::scene::{SECRET, Scene, exists};
use rcc_testkit::world::HostCommand;

/// Makes every mount read-only but the one of the directory `$1`, proves it, and executes the rest.
const SEAT_BELT: &str = r#"
    set -eu
    keep=$1
    shift
    mount --bind "$keep" "$keep"
    # What another mount hides cannot be reached: at its path there is nothing, or another device.
    is_hidden() { [ ! -e "$2" ] || [ "$(stat --format=%Hd:%Ld "$2")" != "$1" ]; }
    # Twice: the first pass may uncover what another mount hid.
    for pass in 1 2; do
        while read -r _ _ device _ target _; do
            case $target in "$keep"|"$keep"/*|/proc|/proc/*) continue;; esac
            mount -o remount,bind,ro "$target" 2>/dev/null || is_hidden "$device" "$target" || [ "$pass" = 1 ]
        done < /proc/self/mountinfo
    done
    # Of several mounts on one directory the last one counts.
    awk -v keep="$keep" '{ options[$5] = $6; device[$5] = $3 }
        END { for (t in options) if (t != keep && index(t, keep "/") != 1 && options[t] !~ /^ro(,|$)/) print device[t], t }' \
        /proc/self/mountinfo > "$keep/open"
    while read -r device target; do
        # Nothing in /proc can be removed, and a sandbox maps its ids there.
        case $target in /proc|/proc/*) continue;; esac
        is_hidden "$device" "$target" || { echo "still writable: $target" >&2; exit 97; }
    done < "$keep/open"
    for place in / /usr /etc /var /tmp /home /root /opt /dev /run; do
        [ ! -d "$place" ] || ! touch "$place/.seat-belt" 2>/dev/null || exit 98
    done
    exec "$@"
"#;

/// Begins a command of the user below the seat belt.
fn belted(scene: &Scene) -> HostCommand<'static> {
    let namespaces: &[&str] = if scene.is_root() {
        &["--mount"]
    } else {
        // Capabilities for the mounts only; the command itself gets none.
        &["--user", "--map-current-user", "--keep-caps", "--mount"]
    };
    let command = scene.command("unshare").args(namespaces).args([
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        SEAT_BELT,
        "sh",
    ]);
    let command = command.arg(&scene.base);
    if scene.is_root() {
        command
    } else {
        command.args(["setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--"])
    }
}

/// Everything below a directory, as path and content, links as their text.
fn listing(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            let content = match () {
                () if kind.is_dir() => "directory".to_owned(),
                () if kind.is_symlink() => std::fs::read_link(&path).unwrap().display().to_string(),
                () => String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
            };
            found.push((
                path.strip_prefix(root).unwrap().display().to_string(),
                content,
            ));
            if kind.is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn removing_everything() {
    let Some(scene) = Scene::new("destruction") else {
        return;
    };
    scene.file("home/work/project/.envrc", "the owner's\n");
    scene.file("home/work/project/src/main.rs", "fn main() {}\n");
    scene.file("outside/granted/data", "granted read-write\n");
    std::os::unix::fs::symlink(scene.base.join("outside"), scene.project().join("link-out"))
        .unwrap();
    let granted = scene.path("outside/granted");
    let kept = ["home/.ssh", "home/.aws", "home/git", "home/work/other"];
    let before: Vec<_> = kept
        .iter()
        .map(|name| listing(&scene.base.join(name)))
        .collect();
    let git_before = (
        listing(&scene.project().join(".git/hooks")),
        scene.text("home/work/project/.git/config"),
    );

    // The belt holds: a control that a wild command would be stopped by it, and only by it.
    let trial = belted(&scene)
        .args([
            "sh",
            "-c",
            "touch outside/x ../../../outside/y; touch /usr/x /tmp/x",
        ])
        .output();
    assert_ne!(trial.code(), Some(0), "{trial}");
    assert!(
        exists(&scene.base.join("outside/y")) && !exists("/tmp/x".as_ref()),
        "{trial}"
    );
    std::fs::remove_file(scene.base.join("outside/y")).unwrap();

    let run = ["run", "-n", "--rw", &granted, "--"];
    let command = belted(&scene).arg(crate::scene::RCC).args(run).args([
        "rm",
        "-rf",
        "--no-preserve-root",
        "/",
    ]);
    let output = command.output();
    assert_ne!(output.code(), Some(125), "the sandbox started\n{output}");
    assert!(output.survivors.is_empty(), "{output}");

    let after: Vec<_> = kept
        .iter()
        .map(|name| listing(&scene.base.join(name)))
        .collect();
    assert_eq!(after, before, "what was not granted is what it was");
    assert_eq!(scene.text("outside/secret"), SECRET);
    let git_after = (
        listing(&scene.project().join(".git/hooks")),
        scene.text("home/work/project/.git/config"),
    );
    assert_eq!(git_after, git_before, "protected paths are what they were");
    assert_eq!(scene.text("home/work/project/.envrc"), "the owner's\n");
    for store in ["home/.local/state/rcc", "home/.local/share/rcc"] {
        assert!(exists(&scene.base.join(store)), "{store}: rcc's own files");
    }
    // The control: what was granted read-write is gone, so the command did its worst.
    for gone in [
        "home/work/project/src",
        "home/work/project/file",
        "home/work/project/.git/HEAD",
        "outside/granted/data",
    ] {
        assert!(!exists(&scene.base.join(gone)), "{gone}\n{output}");
    }
    // The next run is as good as any.
    scene
        .inside(&["read", &scene.path("outside/secret")])
        .assert_denied("ENOENT");
}
