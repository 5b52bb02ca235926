//! Getting more rights: set-user-id programs, file capabilities, capability calls, ids, limits.

use std::os::unix::fs::PermissionsExt as _;

use crate::scene::Scene;
use rcc_testkit::probe::{self, Record};

fn ids(record: &Record, name: &str) -> Vec<String> {
    record.detail[name]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_set_user_id_program_of_another_user() {
    let Some(scene) = Scene::new("privileges_setuid") else {
        return;
    };
    if scene.is_root() {
        let tool = scene.base.join("outside/tool");
        rcc_testkit::copy_program(&probe::path(), &tool);
        std::os::unix::fs::chown(&tool, Some(64_002), Some(64_002)).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o6755)).unwrap();
        let outside = Record::of(&scene.command(&tool).arg("whoami").output());
        assert_eq!(
            ids(&outside, "uid"),
            ["0", "64002", "64002", "64002"],
            "the control"
        );
        let flags = ["-n", "--ro", tool.to_str().unwrap()];
        let inside = Record::of(&scene.run(&flags).arg(&tool).arg("whoami").output());
        assert_eq!(ids(&inside, "uid"), ["0", "0", "0", "0"]);
        assert_eq!(ids(&inside, "gid"), ["0", "0", "0", "0"]);
        return;
    }
    // Nobody but root can make one that belongs to another: the system's own. The dynamic loader obeys LD_DEBUG only
    // where the program gained nothing by being executed (ld.so(8)).
    let program = ["/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount"]
        .into_iter()
        .find(|path| {
            std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o4000 != 0)
        });
    let program = program.expect("every system has one of these");
    let words = ["LD_DEBUG=libs", program, "--help"];
    // On the machine itself: in an ordinary user's test world there is no other user that could be become.
    let outside = std::process::Command::new("env")
        .args(words)
        .output()
        .unwrap();
    let outside = String::from_utf8_lossy(&outside.stderr).into_owned();
    assert!(
        !outside.contains("calling init"),
        "the control: {program} gains rights outside"
    );
    let inside = scene.run(&["-n"]).arg("env").args(words).output();
    assert!(
        inside.stderr_text().contains("calling init"),
        "{program} gained rights inside\n{inside}"
    );
}

#[test]
fn a_program_with_file_capabilities() {
    let Some(scene) = Scene::new("privileges_file_capabilities") else {
        return;
    };
    let tool = scene.base.join("outside/tool");
    rcc_testkit::copy_program(&probe::path(), &tool);
    scene.world.give_to_user(&scene.base);
    let tool = tool.to_str().unwrap();
    // Written by hand, so that no tool is needed: version 2 (capabilities(7)) with net_raw (13) and sys_admin (21)
    // permitted and effective. In a user namespace the kernel makes it version 3, valid for that namespace's root.
    let value = "0x0100000200202000000000000000000000000000";
    let set = "python3 - \"$1\" \"$2\" <<'E'\nimport os,sys\nos.setxattr(sys.argv[1],'security.capability',bytes.fromhex(sys.argv[2][2:]))\nE";
    if !rcc_testkit::require("python3") {
        return;
    }
    let as_root: &[&str] = if scene.is_root() {
        &["sh", "-c"]
    } else {
        &["unshare", "--user", "--map-root-user", "sh", "-c"]
    };
    let script = format!("{set}\n\"$1\" whoami");
    let command = scene
        .command(as_root[0])
        .args(&as_root[1..])
        .args([&script, "sh", tool, value]);
    let control = Record::of(&command.output());
    assert!(
        ids(&control, "effective").contains(&"net_raw".to_owned()),
        "the control: {control:?}"
    );
    let flags = ["-n", "--ro", tool];
    let inside = Record::of(&scene.run(&flags).arg(tool).arg("whoami").output());
    for set in [
        "effective",
        "permitted",
        "inheritable",
        "ambient",
        "bounding",
    ] {
        assert_eq!(ids(&inside, set), Vec::<String>::new(), "{set}");
    }
}

#[test]
fn every_capability_set_is_empty_and_stays_so() {
    let Some(scene) = Scene::new("privileges_capabilities") else {
        return;
    };
    let inside = scene.inside(&["whoami"]);
    for set in [
        "effective",
        "permitted",
        "inheritable",
        "ambient",
        "bounding",
    ] {
        assert_eq!(ids(&inside, set), Vec::<String>::new(), "{set}");
    }
    assert_eq!(inside.detail["no_new_privs"], true);
    scene.inside(&["capset-all"]).assert_denied("EPERM");
    // 21 is CAP_SYS_ADMIN, 13 CAP_NET_RAW.
    for capability in ["13", "21"] {
        scene
            .inside(&["ambient-raise", capability])
            .assert_denied("EPERM");
    }
    scene.inside(&["securebits", "0"]).assert_denied("EPERM");
    // Not even by being root of nothing: executing something gives root no capabilities either.
    let again = scene.sh(&["-n"], "\"$0\" run \"$0\" whoami");
    assert!(
        again.stdout_text().contains(r#"\"effective\":[]"#),
        "{again}"
    );
    let control = scene.privileged(&["whoami"]);
    assert!(
        ids(&control, "effective").len() > 30,
        "the control: {control:?}"
    );
    scene.privileged(&["securebits", "0"]).assert_ok();
}

#[test]
fn no_new_privs_cannot_be_cleared() {
    let Some(scene) = Scene::new("privileges_no_new_privs") else {
        return;
    };
    scene
        .inside(&["clear-no-new-privs"])
        .assert_denied("EINVAL");
    let status = scene.inside(&["status"]);
    assert_eq!(
        (&status.detail["NoNewPrivs"], &status.detail["Seccomp"]),
        (&"1".into(), &"2".into())
    );
    let outside = scene.outside(&["status"]);
    assert_eq!(
        (&outside.detail["NoNewPrivs"], &outside.detail["Seccomp"]),
        (&"0".into(), &"0".into()),
        "the control"
    );
}

#[test]
fn other_user_and_group_ids() {
    let Some(scene) = Scene::new("privileges_ids") else {
        return;
    };
    // Ids other than the caller's do not exist inside: EINVAL is the kernel's word for an id without a mapping.
    let other = if scene.is_root() { "1000" } else { "0" };
    for probe in ["setuid", "setgid", "setresuid"] {
        scene.inside(&[probe, other]).assert_denied("EINVAL");
        scene.inside(&[probe, "65534"]).assert_denied("EINVAL");
    }
    scene.inside(&["setgroups", "0"]).assert_denied("EPERM");
    scene
        .inside(&["setgroups", other])
        .assert_denied_with_any(&["EPERM", "EINVAL"]);
    scene.inside(&["setfsuid", other]).assert_denied("EPERM");
    scene.privileged(&["setuid", "0"]).assert_ok();
    if scene.is_root() {
        for words in [
            &["setuid", "1000"][..],
            &["setgid", "1000"],
            &["setresuid", "1000"],
            &["setgroups", "1000"],
            &["setfsuid", "1000"],
        ] {
            scene.outside(words).assert_ok();
        }
    }
    let own = scene.world.user().uid.to_string();
    scene.inside(&["setuid", &own]).assert_ok();
    // Giving a file away makes the same point on disk.
    scene
        .inside(&["chown", "file", other, other])
        .assert_denied_with_any(&["EINVAL", "EPERM"]);
}

#[test]
fn groups_of_the_caller() {
    let Some(scene) = Scene::new("privileges_groups") else {
        return;
    };
    if !scene.is_root() {
        // An ordinary user cannot shed groups without help (user_namespaces(7)): what is not granted is not there.
        let inside = scene.inside(&["whoami"]);
        assert!(
            ids(&inside, "groups")
                .iter()
                .all(|group| group == "65534" || *group == scene.world.user().gid.to_string())
        );
        return;
    }
    let with_groups = ["setpriv", "--groups", "4,6,42"];
    let outside = scene
        .command(with_groups[0])
        .args(&with_groups[1..])
        .arg(probe::path())
        .arg("whoami")
        .output();
    assert_eq!(
        ids(&Record::of(&outside), "groups"),
        ["4", "6", "42"],
        "the control"
    );
    let command = scene.command(with_groups[0]).args(&with_groups[1..]).args([
        crate::scene::RCC,
        "run",
        "-n",
        "--ro",
    ]);
    let inside = command
        .arg(probe::path())
        .arg("--")
        .arg(probe::path())
        .arg("whoami")
        .output();
    assert_eq!(ids(&Record::of(&inside), "groups"), Vec::<String>::new());
}

#[test]
fn raising_limits() {
    let Some(scene) = Scene::new("privileges_limits") else {
        return;
    };
    // RLIMIT_CORE 4, RLIMIT_NOFILE 7, RLIMIT_NPROC 6; hard limits that the caller lowered stay.
    let script = "ulimit -Hn 500; ulimit -Hu 900; exec \"$0\" run -n --ro \"$1\" -- \"$1\" raise-limit \"$2\"";
    for resource in ["4", "6", "7"] {
        let command = scene
            .command("bash")
            .args(["-c", script, crate::scene::RCC])
            .arg(probe::path())
            .arg(resource);
        Record::of(&command.output()).assert_denied("EPERM");
    }
    // RLIMIT_CPU 0 has no limit: setting what is in force works.
    scene.inside(&["raise-limit", "0"]).assert_ok();
}

/// A shell that rcc's caller could not have: programs that ask for rights find none, whatever their name.
#[test]
fn the_programs_that_people_ask_for_rights_with() {
    let Some(scene) = Scene::new("privileges_programs") else {
        return;
    };
    for program in [
        "sudo -n true",
        "su -c true",
        "pkexec true",
        "newgrp root",
        "unshare -Ur true",
        "nsenter -t 1 -m true",
        "chroot / true",
        "mount -t tmpfs x /tmp",
    ] {
        let output = scene.sh(&["-n"], &format!("{program} </dev/null"));
        // `su` and `newgrp` of a root caller need no rights to become root: that is who it is already, without any.
        let is_no_change = scene.is_root()
            && (program.starts_with("su ")
                || program.starts_with("newgrp")
                || program.starts_with("sudo"));
        assert!(
            is_no_change || output.code() != Some(0),
            "{program}\n{output}"
        );
    }
    scene
        .command("unshare")
        .args(["-Ur", "true"])
        .output()
        .assert_success();
}
