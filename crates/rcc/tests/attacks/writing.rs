//! Changing what was not granted, by every call that changes something.

use crate::scene::{SECRET, Scene, exists};
use rcc_testkit::probe::Record;

/// Every way to change something in a directory that holds a file `secret-of-library`; what worked is made to work
/// again by the order.
fn changes(directory: &str) -> Vec<Vec<String>> {
    let path = |name: &str| format!("{directory}/{name}");
    let own = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let secret = path("secret-of-library");
    let at = format!("str:{secret}");
    vec![
        own(&["append", &secret, "x"]),
        own(&["write", &secret, SECRET]),
        own(&["create", &path("new-file")]),
        own(&["mkdir", &path("new-directory")]),
        own(&["rmdir", &path("new-directory")]),
        own(&["symlink", "/etc/passwd", &path("new-link")]),
        own(&["mknod", &path("new-fifo"), "fifo"]),
        own(&["hardlink", &secret, &path("new-name")]),
        own(&["rename", &path("new-name"), &path("newer-name")]),
        own(&["unlink", &path("newer-name")]),
        own(&["chmod", &secret, "600"]),
        own(&["setxattr", &secret, "user.rcc", "x"]),
        own(&["syscall", "utimensat", "-100", &at, "null", "0"]),
        own(&["syscall", "truncate", &at, "3"]),
    ]
}

fn borrow(lines: &[Vec<String>]) -> Vec<Vec<&str>> {
    lines
        .iter()
        .map(|words| words.iter().map(String::as_str).collect())
        .collect()
}

#[test]
fn a_read_only_directory_by_every_call() {
    let Some(scene) = Scene::new("writing_read_only") else {
        return;
    };
    let lines = changes(&scene.path("home/git/library"));
    for (words, record) in lines.iter().zip(scene.inside_all(&["-n"], &borrow(&lines))) {
        // The mount is read-only, and Landlock, which looks before the file system does, says EACCES; what an earlier,
        // refused line did not make is ENOENT.
        let errnos: &[&str] = match words[0].as_str() {
            "rmdir" | "rename" | "unlink" => &["EROFS", "EACCES", "ENOENT"],
            _ => &["EROFS", "EACCES"],
        };
        assert!(
            !record.ok && errnos.contains(&record.errno.as_deref().unwrap_or("")),
            "{words:?}: {record:?}"
        );
    }
    assert_eq!(scene.text("home/git/library/secret-of-library"), SECRET);
    for (words, record) in lines.iter().zip(scene.outside_all(&borrow(&lines))) {
        assert!(
            record.ok,
            "the positive control {words:?} failed: {record:?}"
        );
    }
}

/// A read-only share stays one, whoever asks.
#[test]
fn a_path_granted_read_only_by_a_flag() {
    let Some(scene) = Scene::new("writing_read_only_flag") else {
        return;
    };
    let outside = scene.path("outside");
    let secret = scene.path("outside/secret");
    let flags = ["-n", "--ro", &outside];
    assert_eq!(
        scene
            .inside_with(&flags, &["read", &secret])
            .assert_ok()
            .detail,
        SECRET
    );
    scene.assert_stopped_with(
        &flags,
        &[
            (vec!["append", &secret, "x"], &["EROFS", "EACCES"]),
            (
                vec!["write-by-symlink", &secret, SECRET],
                &["EROFS", "EACCES"],
            ),
            (
                vec!["create", &format!("{outside}/new")],
                &["EROFS", "EACCES"],
            ),
            (vec!["chmod", &secret, "666"], &["EROFS"]),
            (vec!["unlink", &secret], &["EROFS", "EACCES"]),
        ],
    );
    for words in [
        ["remount-writable", &outside],
        ["mount-setattr-writable", &outside],
        ["umount", &outside],
    ] {
        scene.inside_with(&flags, &words).assert_denied("EPERM");
    }
}

#[test]
fn beside_the_project() {
    let Some(scene) = Scene::new("writing_beside_the_project") else {
        return;
    };
    let secret = scene.path("outside/secret");
    let other = scene.path("home/work/other/file");
    let new = scene.path("outside/new");
    scene.assert_stopped(&[
        (vec!["append", &secret, "x"], &["ENOENT"]),
        (vec!["write-by-symlink", &secret, SECRET], &["ENOENT"]),
        (vec!["write", "../other/file", SECRET], &["ENOENT"]),
        (vec!["append", &other, "x"], &["ENOENT"]),
        (vec!["create", &new], &["ENOENT"]),
        (vec!["chmod", &secret, "600"], &["ENOENT"]),
        (vec!["rename", &new, &format!("{new}-2")], &["ENOENT"]),
    ]);
    assert_eq!(
        scene.text("home/work/other/file"),
        format!("{SECRET}x"),
        "the control wrote, once"
    );
}

#[test]
fn through_a_link_that_lay_in_the_project() {
    let Some(scene) = Scene::new("writing_by_a_link") else {
        return;
    };
    let secret = scene.path("outside/secret");
    std::os::unix::fs::symlink(&secret, scene.project().join("log")).unwrap();
    scene.assert_stopped(&[
        (vec!["append", "log", "x"], &["ENOENT"]),
        (vec!["write", "log", SECRET], &["ENOENT"]),
        (vec!["chmod", "log", "600"], &["ENOENT"]),
    ]);
    assert_eq!(scene.text("outside/secret"), SECRET);
}

/// The home is the agent's own and writable; none of it appears in the real one.
#[test]
fn the_real_home() {
    let Some(scene) = Scene::new("writing_the_real_home") else {
        return;
    };
    let lines = r"
        set -e
        mkdir -p ~/.ssh ~/work/other
        for name in .ssh/authorized_keys .bashrc .profile work/other/file; do echo planted > ~/$name; done
        echo planted > /tmp/planted-by-the-agent
    ";
    scene.sh(&["-n"], lines).assert_success();
    for name in ["home/.ssh/authorized_keys", "home/.bashrc", "home/.profile"] {
        assert!(!exists(&scene.base.join(name)), "{name}");
    }
    assert_eq!(scene.text("home/work/other/file"), SECRET);
    assert!(!exists("/tmp/planted-by-the-agent".as_ref()));
    let kept = scene.agent_home().join(".bashrc");
    assert_eq!(
        std::fs::read_to_string(kept).unwrap(),
        "planted\n",
        "the control: it was written, to the agent home"
    );
}

#[test]
fn the_system() {
    let Some(scene) = Scene::new("writing_the_system") else {
        return;
    };
    for path in [
        "/new",
        "/bin/new",
        "/usr/bin/new",
        "/usr/local/bin/new",
        "/lib/new",
        "/etc/new",
        "/etc/cron.d/new",
        "/opt/new",
    ] {
        scene
            .inside(&["create", path])
            .assert_denied_with_any(&["EROFS", "EACCES", "ENOENT"]);
    }
    for path in [
        "/run/new", "/var/new", "/dev/new", "/sys/new", "/home", "/root",
    ] {
        // The probe is granted: where the clone lies below /home, an otherwise empty /home is there already.
        if rcc_testkit::probe::path().starts_with(path) {
            continue;
        }
        scene
            .inside(&["mkdir", path])
            .assert_denied_with_any(&["EROFS", "EACCES"]);
    }
    for path in [
        "/etc/passwd",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/ld.so.cache",
        "/usr/bin/env",
    ] {
        scene
            .inside(&["append", path, "x"])
            .assert_denied_with_any(&["EROFS", "EACCES", "ETXTBSY"]);
        scene
            .inside(&["chmod", path, "777"])
            .assert_denied_with_any(&["EROFS", "EPERM"]);
        scene
            .inside(&["unlink", path])
            .assert_denied_with_any(&["EROFS", "EACCES", "EBUSY"]);
    }
    for device in ["/dev/null", "/dev/tty", "/dev/full"] {
        scene
            .inside(&["chmod", device, "600"])
            .assert_denied_with_any(&["EROFS", "EPERM"]);
        scene
            .inside(&["unlink", device])
            .assert_denied_with_any(&["EROFS", "EACCES", "EBUSY"]);
    }
    // The control: the very same probes work where writing is granted.
    for words in [
        vec!["create", "new"],
        vec!["append", "new", "x"],
        vec!["chmod", "new", "600"],
        vec!["unlink", "new"],
    ] {
        scene.inside(&words).assert_ok();
    }
}

/// The walk opens everything for writing that can be seen; what opens is compared as a whole.
#[test]
fn whatever_else_can_be_opened_for_writing() {
    let Some(scene) = Scene::new("writing_everything") else {
        return;
    };
    let words = [
        "writable-below",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib64",
        "/media",
        "/mnt",
        "/nix",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/usr/bin",
        "/usr/lib/systemd",
        "/usr/local",
        "/usr/sbin",
        "/var",
    ];
    let record = scene.inside(&words);
    let opened: Vec<&str> = record.detail["opened"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap())
        .collect();
    let devices_of_everybody = [
        "/dev/full",
        "/dev/null",
        "/dev/pts/ptmx",
        "/dev/random",
        "/dev/urandom",
        "/dev/zero",
    ];
    assert_eq!(
        opened, devices_of_everybody,
        "and, as a control, the walk opens what can be opened"
    );
    let refused = record.detail["refused"].as_object().unwrap();
    let expected = ["EACCES", "EPERM", "EROFS", "ENXIO", "ETXTBSY", "EIO"];
    assert!(
        refused.keys().all(|kind| expected.contains(&kind.as_str())),
        "{refused:?}"
    );
    let seen: u64 = refused.values().filter_map(serde_json::Value::as_u64).sum();
    assert!(seen > 1000, "the walk saw the system: {refused:?}");
}

#[test]
fn the_sandboxs_memory_beyond_its_size() {
    let Some(scene) = Scene::new("writing_beyond_the_size") else {
        return;
    };
    scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[limits]\ntmp_size = \"8MiB\"\n",
    );
    let mib = 1 << 20;
    let record = scene.inside(&["fill", "/tmp", &(64 * mib).to_string()]);
    record.assert_denied("ENOSPC");
    assert!(
        record.detail["written"].as_u64().unwrap() <= 8 * mib,
        "{record:?}"
    );
    scene
        .inside(&["fill", "/tmp", &(4 * mib).to_string()])
        .assert_ok();
    // Directories of the sandbox's own tree that no limit is named for take nothing at all.
    for directory in ["/", "/run", "/var", "/dev", "/proc", "/sys", "/etc"] {
        scene
            .inside(&["fill", directory, "1"])
            .assert_denied_with_any(&["EROFS", "EACCES", "ENOENT"]);
    }
}

#[test]
fn a_set_user_id_file_in_the_project() {
    let Some(scene) = Scene::new("writing_setuid") else {
        return;
    };
    let output = scene.sh(
        &["-n"],
        "cp \"$0\" ./tool && chmod 6755 ./tool && ./tool whoami",
    );
    let record = Record::of(&output);
    let uid = scene.world.user().uid.to_string();
    assert_eq!(
        record.detail["uid"],
        serde_json::json!([uid, uid, uid, uid])
    );
    assert_eq!(record.detail["effective"], serde_json::json!([]));
}
