//! Reading what was not granted.

use crate::scene::{SECRET, Scene};
use rcc_testkit::probe;

/// A secret file beside the project, and the two best known ones of a home.
const SECRETS: [&str; 3] = ["outside/secret", "home/.ssh/id", "home/.aws/credentials"];

#[test]
fn by_absolute_path() {
    let Some(scene) = Scene::new("reading_by_absolute_path") else {
        return;
    };
    let paths = SECRETS.map(|name| scene.path(name));
    for path in &paths {
        assert_eq!(scene.outside(&["read", path]).assert_ok().detail, SECRET);
    }
    let attacks: Vec<_> = paths
        .iter()
        .map(|path| (vec!["read", path], &["ENOENT"][..]))
        .collect();
    scene.assert_stopped(&attacks);
}

#[test]
fn by_listing_the_real_home_and_what_lies_beside_the_project() {
    let Some(scene) = Scene::new("reading_by_listing") else {
        return;
    };
    let home = scene.path("home");
    let record = scene.inside(&["list", &home]);
    assert_eq!(
        record.assert_ok().detail,
        serde_json::json!(["git", "work"]),
        "only the mount points of grants"
    );
    let work = scene.path("home/work");
    assert_eq!(
        scene.inside(&["list", &work]).assert_ok().detail,
        serde_json::json!(["project"])
    );
    assert_eq!(
        scene.outside(&["list", &work]).assert_ok().detail,
        serde_json::json!(["other", "project"])
    );
    assert!(
        scene
            .outside(&["list", &home])
            .assert_ok()
            .detail
            .as_array()
            .unwrap()
            .contains(&".ssh".into())
    );
}

#[test]
fn by_a_link_made_inside() {
    let Some(scene) = Scene::new("reading_by_a_link_made_inside") else {
        return;
    };
    let secret = scene.path("outside/secret");
    scene.assert_stopped(&[(vec!["read-by-symlink", &secret], &["ENOENT"])]);
}

#[test]
fn by_a_link_that_lay_in_the_project() {
    let Some(scene) = Scene::new("reading_by_a_link_in_the_project") else {
        return;
    };
    let project = scene.project();
    std::os::unix::fs::symlink(scene.base.join("outside/secret"), project.join("link")).unwrap();
    std::os::unix::fs::symlink(scene.base.join("outside"), project.join("directory")).unwrap();
    std::os::unix::fs::symlink("../../../outside/secret", project.join("relative")).unwrap();
    scene.assert_stopped(&[
        (vec!["read", "link"], &["ENOENT"]),
        (vec!["read", "directory/secret"], &["ENOENT"]),
        (vec!["read", "relative"], &["ENOENT"]),
        (vec!["list", "directory"], &["ENOENT"]),
    ]);
}

#[test]
fn by_dotdot() {
    let Some(scene) = Scene::new("reading_by_dotdot") else {
        return;
    };
    let secret = scene.path("outside/secret");
    scene.assert_stopped(&[
        (vec!["read-by-dotdot", &secret], &["ENOENT"]),
        (vec!["read", "../../../outside/secret"], &["ENOENT"]),
        (vec!["read", "../other/file"], &["ENOENT"]),
    ]);
}

#[test]
fn through_the_root_and_working_directory_of_a_process() {
    let Some(scene) = Scene::new("reading_through_proc") else {
        return;
    };
    let secret = scene.path("outside/secret");
    scene.assert_stopped(&[
        (vec!["read-by-proc", "self", "root", &secret], &["ENOENT"]),
        (vec!["read-by-proc", "self", "cwd", &secret], &["ENOENT"]),
        (
            vec!["read-by-proc", "thread-self", "root", &secret],
            &["ENOENT"],
        ),
    ]);
    // pid 1 of the sandbox shows nothing at all; pid 1 outside shows root the host.
    for what in ["root", "cwd"] {
        scene
            .inside(&["read-by-proc", "1", what, &secret])
            .assert_denied("EACCES");
    }
    let victim = scene.victim();
    let pid = victim.pid().to_string();
    for what in ["root", "cwd"] {
        scene
            .outside(&["read-by-proc", &pid, what, &secret])
            .assert_ok();
        scene
            .inside(&["read-by-proc", &pid, what, &secret])
            .assert_denied("ENOENT");
    }
}

#[test]
fn through_descriptors_of_other_processes() {
    let Some(scene) = Scene::new("reading_through_proc_fd") else {
        return;
    };
    let victim = scene.victim();
    let pid = victim.pid().to_string();
    let opened = scene.outside(&["open-proc-fds", &pid]);
    assert!(
        opened
            .assert_ok()
            .detail
            .to_string()
            .contains("/outside/secret"),
        "{opened:?}"
    );

    // Inside, all processes at once: nothing of pid 1 can be opened, and no other process has anything of the host.
    let record = scene.inside(&["open-proc-fds"]);
    let refused = record.detail["refused"].as_array().unwrap();
    let of_init: Vec<_> = refused
        .iter()
        .filter(|entry| entry[0].as_str().unwrap().starts_with("/proc/1/fd"))
        .collect();
    assert!(!of_init.is_empty(), "{record:?}");
    assert!(
        of_init.iter().all(|entry| entry[1] == "EACCES"),
        "{record:?}"
    );
    let opened = record.detail["opened"].to_string();
    assert!(!opened.contains("/proc/1/"), "{record:?}");
    assert!(
        !record
            .detail
            .to_string()
            .contains(scene.base.to_str().unwrap()),
        "{record:?}"
    );
    let record = scene.inside(&["open-proc-fds", &pid]);
    assert!(
        !record.ok && record.detail["refused"].to_string().contains("ENOENT"),
        "{record:?}"
    );
}

#[test]
fn by_file_handle() {
    let Some(scene) = Scene::new("reading_by_file_handle") else {
        return;
    };
    let secret = scene.path("outside/secret");
    // A handle is a number that can be guessed: the one of the host's file is handed in.
    let handle = scene.outside(&["handle-of", &secret]);
    let detail = &handle.assert_ok().detail;
    let (kind, bytes) = (
        detail["type"].to_string(),
        detail["hex"].as_str().unwrap().to_owned(),
    );
    let by_handle = ["read-by-handle-bytes", ".", &kind, &bytes];
    scene.inside(&by_handle).assert_denied("EPERM");
    scene
        .inside(&["read-by-handle", "file"])
        .assert_denied("EPERM");
    scene.inside(&["handle-of", "file"]).assert_denied("EPERM");
    let outside = scene.outside(&by_handle);
    if scene.is_root() {
        // CAP_DAC_READ_SEARCH opens it: without the filter and with that capability this is the classic way out.
        assert_eq!(outside.assert_ok().detail, SECRET);
    }
    // The filter refuses by itself, whatever the kernel would say to an ordinary user.
    for call in ["open_by_handle_at", "name_to_handle_at"] {
        assert_eq!(scene.filter_outside(&[call])[call], "allowed");
        assert_eq!(scene.filter(&["-n"], &[call])[call], "EPERM");
    }
}

#[test]
fn by_hard_link_of_a_file_outside() {
    let Some(scene) = Scene::new("reading_by_hard_link") else {
        return;
    };
    let secret = scene.path("outside/secret");
    let library = scene.path("home/git/library/secret-of-library");
    // The name does not exist; and what is granted read-only cannot be linked to where it could be written.
    scene.assert_stopped(&[
        (vec!["hardlink", &secret, "linked-1"], &["ENOENT"]),
        (vec!["hardlink-by-fd", &secret, "linked-2"], &["ENOENT"]),
        (vec!["hardlink", &library, "linked-3"], &["EXDEV"]),
        (vec!["hardlink-by-fd", &library, "linked-4"], &["EXDEV"]),
    ]);
}

#[test]
fn directories_of_the_host_that_no_sandbox_shows() {
    let Some(scene) = Scene::new("reading_absent_directories") else {
        return;
    };
    let mut shown = 0;
    for path in [
        "/boot",
        "/home",
        "/media",
        "/mnt",
        "/root",
        "/srv",
        "/lost+found",
        "/sys/class",
        "/sys/firmware",
        "/sys/fs",
    ] {
        // The probe itself is granted, so what it lies in exists: a clone below /home shows an otherwise empty /home.
        let holds_the_probe = probe::path().starts_with(path);
        if !holds_the_probe && scene.outside(&["stat", path]).ok {
            shown += 1;
            scene.inside(&["stat", path]).assert_denied("ENOENT");
        }
    }
    assert!(
        shown >= 5,
        "the control found only {shown} of them on this machine"
    );
}

#[test]
fn secret_files_of_etc() {
    let Some(scene) = Scene::new("reading_secret_files_of_etc") else {
        return;
    };
    let mut shown = 0;
    for path in [
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/shadow-",
        "/etc/gshadow-",
        "/etc/sudoers",
        "/etc/ssh/ssh_host_rsa_key",
    ] {
        if scene.outside(&["stat", path]).ok {
            shown += 1;
            // Absent, or where the host has mounts below /etc, covered by an empty file that nobody may open.
            let read = scene.inside(&["read", path]);
            read.assert_denied_with_any(&["ENOENT", "EACCES"]);
            let by_proc = scene.inside(&["read-by-proc", "self", "root", path]);
            by_proc.assert_denied_with_any(&["ENOENT", "EACCES"]);
            let stat = scene.inside(&["stat", path]);
            let is_cover = stat.detail["size"] == 0 && stat.detail["mode"] == "0";
            assert!(!stat.ok || is_cover, "{stat:?}");
        }
    }
    assert!(
        shown >= 2,
        "the control found only {shown} of them on this machine"
    );
    if scene.is_root() {
        scene.outside(&["read", "/etc/shadow"]).assert_ok();
    }
}

#[test]
fn who_else_has_an_account_here() {
    let Some(scene) = Scene::new("reading_accounts") else {
        return;
    };
    let outside = scene.outside(&["read", "/etc/passwd"]).detail;
    assert!(outside.as_str().unwrap().lines().count() >= 2, "{outside}");
    let inside = scene.inside(&["read", "/etc/passwd"]).detail;
    let names: Vec<&str> = inside
        .as_str()
        .unwrap()
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let user = scene.world.user().name.as_str();
    let expected = if scene.is_root() {
        vec![user, "nobody"]
    } else {
        vec!["root", user, "nobody"]
    };
    assert_eq!(names, expected);
    let machine = "/etc/machine-id";
    let inside = scene.inside(&["read", machine]).assert_ok().detail.clone();
    assert_ne!(
        scene.outside(&["read", machine]).detail,
        inside,
        "the machine can be recognised"
    );
}

/// Whatever name a hidden file is called by, it is the file that is hidden.
#[test]
fn a_hidden_file_by_any_other_name() {
    let Some(scene) = Scene::new("reading_hidden") else {
        return;
    };
    scene.file("home/work/project/config/production.key", SECRET);
    scene.file("home/work/project/vault/key", SECRET);
    let key = scene.path("home/work/project/config/production.key");
    let dotted = scene.path("home/work/project/./config//production.key");
    let ways: Vec<Vec<&str>> = vec![
        vec!["read", "config/production.key"],
        vec!["read", &key],
        vec!["read", &dotted],
        vec!["read", "vault/../config/production.key"],
        vec!["read-by-symlink", &key],
        vec!["read-by-dotdot", &key],
        vec!["read-by-proc", "self", "root", &key],
        vec!["read-by-proc", "self", "cwd", &key],
        vec!["socketpair-pass-fd", "config/production.key"],
    ];
    for record in scene.inside_all(&["-n"], &ways) {
        assert_eq!(
            record.assert_ok().detail,
            SECRET,
            "the control: not hidden, so readable"
        );
    }
    let flags = ["-n", "--hide", "config/production.key", "--hide", "vault/"];
    for record in scene.inside_all(&flags, &ways) {
        record.assert_denied("EACCES");
    }
    let others = scene.inside_all(
        &flags,
        &[
            vec!["hardlink", "config/production.key", "copy"],
            vec!["rename", "config/production.key", "config/copy"],
            vec!["unlink", "config/production.key"],
            vec!["chmod", "config/production.key", "644"],
            vec!["read", "vault/key"],
            vec!["list", "vault"],
            vec!["rename", "vault", "vault2"],
            vec!["chmod", "vault", "755"],
            vec!["umount", "vault"],
        ],
    );
    let errnos = [
        "EXDEV", "EBUSY", "EBUSY", "EROFS", "EACCES", "EACCES", "EBUSY", "EROFS", "EPERM",
    ];
    for (record, errno) in others.iter().zip(errnos) {
        record.assert_denied(errno);
    }
    // Nor can the directory around it be moved away: the next run would look for the file where it is no more.
    let around = scene.inside_with(&flags, &["rename", "config", "moved"]);
    around.assert_denied("EBUSY");
    assert_eq!(
        scene.text("home/work/project/config/production.key"),
        SECRET,
        "and the host's file is what it was"
    );
}

/// Neither a copy of a program nor the dynamic loader sees more than the program itself.
#[test]
fn with_a_copied_program_the_loader_or_a_program_in_memory() {
    let Some(scene) = Scene::new("reading_with_a_copied_program") else {
        return;
    };
    let secret = scene.path("outside/secret");
    let ways = r#"
        cp "$0" ./harmless; ./harmless read "$1"
        loader=$(ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 2>/dev/null | head -1)
        "$loader" ./harmless read "$1"
        "$0" memfd-run "$0" read "$1"
    "#;
    let run = |command: rcc_testkit::world::HostCommand<'static>| {
        command
            .args(["sh", "-c", ways])
            .arg(probe::path())
            .arg(&secret)
            .output()
    };
    let inside = run(scene.run(&["-n"]));
    let outside = run(scene.command("env"));
    let lines = |output: &rcc_testkit::world::Output| {
        output
            .assert_success()
            .stdout_text()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for line in lines(&outside) {
        assert!(line.contains(SECRET), "{line}");
    }
    let inside = lines(&inside);
    assert_eq!(inside.len(), 3);
    for line in inside {
        assert!(line.contains("ENOENT") && !line.contains(SECRET), "{line}");
    }
}
