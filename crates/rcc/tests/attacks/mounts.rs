//! Changing the mounts: every call of both interfaces. The control has every capability over a mount namespace of its
//! own, where each of them works.

use crate::scene::Scene;

/// Words of a probe, and the system call that decides.
const ATTACKS: [(&[&str], &str); 13] = [
    (&["mount-fs", "tmpfs", "/tmp"], "mount"),
    (&["mount-fs", "proc", "/tmp"], "mount"),
    (&["mount-bind", "/usr", "/tmp"], "mount"),
    (&["mount-bind", "/proc/self/cwd", "/tmp"], "mount"),
    (&["make-shared", "/"], "mount"),
    (&["remount-writable", "/"], "mount"),
    (&["umount", "/proc"], "umount2"),
    (&["open-tree", "/usr"], "open_tree"),
    (&["move-mount", "/usr", "/tmp"], "open_tree"),
    (&["fsopen", "tmpfs"], "fsopen"),
    (&["fsmount", "tmpfs", "/tmp"], "fsopen"),
    (&["mount-setattr-writable", "/"], "mount_setattr"),
    (&["chroot", "/tmp"], "chroot"),
];

#[test]
fn by_every_mount_call() {
    let Some(scene) = Scene::new("mounts_by_every_call") else {
        return;
    };
    for (words, _) in ATTACKS {
        scene.inside(words).assert_denied("EPERM");
    }
    for (words, _) in ATTACKS {
        // Mounts that came from a more privileged namespace are locked, which is EPERM or EINVAL from the kernel: for
        // these the filter's answer below is the control, and `making_read_only_mounts_writable`.
        if ![
            "remount-writable",
            "make-shared",
            "mount-setattr-writable",
            "umount",
        ]
        .contains(&words[0])
        {
            let record = scene.privileged(words);
            assert!(
                record.ok,
                "the positive control {words:?} failed: {record:?}"
            );
        }
    }
    let others = ["pivot_root", "move_mount", "fsconfig", "fsmount", "fspick"];
    let calls: Vec<&str> = ATTACKS
        .iter()
        .map(|(_, call)| *call)
        .chain(others)
        .collect();
    let (inside, outside) = (scene.filter(&["-n"], &calls), scene.filter_outside(&calls));
    for call in calls {
        assert_eq!(
            (&inside[call], &outside[call]),
            (&"EPERM".into(), &"allowed".into()),
            "{call}"
        );
    }
}

#[test]
fn pivot_root_and_chroot() {
    let Some(scene) = Scene::new("mounts_pivot_root") else {
        return;
    };
    scene
        .inside(&["pivot-root", ".", "."])
        .assert_denied("EPERM");
    scene.inside(&["chroot", "."]).assert_denied("EPERM");
    // EINVAL: the call was reached, and `.` is no mount point.
    scene
        .privileged(&["pivot-root", ".", "."])
        .assert_denied("EINVAL");
    scene.privileged(&["chroot", "."]).assert_ok();
}

/// The calls that would make a read-only mount writable again, aimed at each kind of it.
#[test]
fn making_read_only_mounts_writable() {
    let Some(scene) = Scene::new("mounts_remount") else {
        return;
    };
    let library = scene.path("home/git");
    for target in [
        "/",
        "/usr",
        "/etc",
        "/proc/sys",
        "/dev/null",
        ".git/config",
        ".git/hooks",
        &library,
    ] {
        for probe in ["remount-writable", "mount-setattr-writable", "umount"] {
            scene.inside(&[probe, target]).assert_denied("EPERM");
        }
    }
    // The control: a read-only mount of one's own becomes writable by the same probes.
    let script = "mount -t tmpfs x /mnt && for probe in remount-writable mount-setattr-writable umount; do \
                  mount -o remount,ro,bind /mnt && \"$0\" $probe /mnt || exit; done";
    let output = scene
        .command("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "--",
            "sh",
            "-c",
            script,
        ])
        .arg(rcc_testkit::probe::path())
        .output();
    assert_eq!(
        output
            .assert_success()
            .stdout_text()
            .matches(r#""ok":true"#)
            .count(),
        3,
        "{output}"
    );
}

/// Every mount inside is private, without set-user-id, and shows no devices but the six of `/dev`.
#[test]
fn flags_of_every_mount() {
    let Some(scene) = Scene::new("mounts_flags") else {
        return;
    };
    let record = scene.inside(&["mounts"]);
    let lines = record.assert_ok().detail.as_array().unwrap();
    assert!(lines.len() > 20, "{lines:?}");
    for line in lines {
        let line = line.as_str().unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let options: Vec<&str> = words[2].split(',').collect();
        assert!(options.contains(&"nosuid"), "{line}");
        assert_eq!(words[3], "private", "{line}");
        let is_device = words[0].starts_with("/dev/") && options.contains(&"noexec");
        assert!(is_device || options.contains(&"nodev"), "{line}");
    }
    let outside = scene.outside(&["mounts"]);
    let outside = outside.detail.as_array().unwrap();
    assert!(
        outside
            .iter()
            .any(|line| !line.as_str().unwrap().contains("nosuid")),
        "the control has other flags"
    );
}
