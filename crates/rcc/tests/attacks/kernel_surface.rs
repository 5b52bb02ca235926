//! The kernel's larger surface: namespaces, io_uring, bpf, perf, keys, modules, odd socket families, other entry points.
//!
//! Many of these calls fail for an ordinary user anyway. So beside the errno inside, every test asks the filter itself
//! (`Scene::filter`): outside the same question is answered `allowed`, inside it must be the filter that refuses, before
//! any code of the kernel behind the call runs.

use crate::scene::Scene;
use rcc_testkit::probe::Record;

/// Fails unless each call is refused inside with its errno by the filter, and outside by nobody.
#[track_caller]
fn assert_filtered(scene: &Scene, calls: &[(&str, &str)]) {
    let questions: Vec<&str> = calls.iter().map(|(call, _)| *call).collect();
    let (inside, outside) = (
        scene.filter(&["-n"], &questions),
        scene.filter_outside(&questions),
    );
    for (call, errno) in calls {
        assert_eq!(outside[*call], "allowed", "the positive control {call}");
        assert_eq!(inside[*call], *errno, "{call}");
    }
}

/// Fails unless the probe fails inside with this errno.
#[track_caller]
fn assert_refused(scene: &Scene, probes: &[(&[&str], &str)]) {
    let lines: Vec<Vec<&str>> = probes.iter().map(|(words, _)| words.to_vec()).collect();
    for ((words, errno), record) in probes.iter().zip(scene.inside_all(&["-n"], &lines)) {
        assert!(
            !record.ok && record.errno.as_deref() == Some(errno),
            "{words:?} should have been {errno}: {record:?}"
        );
    }
}

/// Edera 2026: with user namespaces an unprivileged process reaches 27 of 40 dangerous operations, without them 8.
#[test]
fn new_namespaces_by_every_call_and_flag() {
    let Some(scene) = Scene::new("surface_namespaces") else {
        return;
    };
    let record = scene.inside(&["namespaces-sweep"]);
    let tried = record.detail.as_object().unwrap();
    assert!(tried.len() >= 48, "{record:?}");
    for (what, answer) in tried {
        // clone3(2) has its flags in memory, where no filter can look: C libraries fall back to clone(2).
        let expected = if what.starts_with("clone3") {
            "ENOSYS"
        } else {
            "EPERM"
        };
        // CLONE_NEWTIME is no flag of clone(2): its bit belongs to the number of the exit signal.
        let is_no_flag = *what == "clone time" && (answer == "EINVAL" || answer == "ok");
        assert!(answer == expected || is_no_flag, "{what}: {answer}");
    }
    let outside = scene.outside(&["namespaces-sweep"]);
    assert_eq!(outside.detail["unshare net+user"], "ok", "the control");
    assert_eq!(outside.detail["clone3 user"], "ok", "the control");
    assert_refused(
        &scene,
        &[
            (&["nested-user-namespace"], "EPERM"),
            (&["unshare", "all"], "EPERM"),
        ],
    );
    scene.outside(&["nested-user-namespace"]).assert_ok();
}

/// CVE-2019-10063: the kernel takes these arguments as 32 bits, a filter that compares 64 misses them.
#[test]
fn flags_with_bits_that_the_kernel_ignores() {
    let Some(scene) = Scene::new("surface_high_bits") else {
        return;
    };
    assert_filtered(
        &scene,
        &[
            ("clone:0x10000000", "EPERM"),
            ("clone:0xffffffff10000000", "EPERM"),
            ("clone:0x1000000040000000", "EPERM"),
            ("unshare:0x10000000", "EPERM"),
            ("unshare:0xdead000010000000", "EPERM"),
            ("socket:0x100000026:5", "EAFNOSUPPORT"),
            ("socket:0xffffffff00000010:3:0x10000000c", "EPROTONOSUPPORT"),
            ("socket:2:0x100000003", "EPERM"),
            ("socket:2:0x80803", "EPERM"),
            ("socket:2:1:0x100000106", "EPROTONOSUPPORT"),
            ("ioctl:0:0x5412", "EPERM"),
            ("ioctl:0:0xffffffff00005412", "EPERM"),
            ("ioctl:0:0x541c", "EPERM"),
            ("ioctl:0:0x10000541c", "EPERM"),
            ("personality:0x100400000", "EPERM"),
        ],
    );
    // What an ordinary program asks for passes.
    let asked = [
        "clone:0x1200011",
        "socket:1:1",
        "socket:2:0x80801:6",
        "socket:10:2:17",
        "socket:16:3:0",
        "ioctl:0:0x5401",
    ];
    for (call, answer) in scene.filter(&["-n"], &asked) {
        assert_eq!(answer, "allowed", "{call}");
    }
}

/// About 60 % of a year of Google's kernel bounties used it; and it makes sockets without `socket(2)`.
#[test]
fn io_uring() {
    let Some(scene) = Scene::new("surface_io_uring") else {
        return;
    };
    scene.assert_stopped(&[
        (vec!["io-uring-setup"], &["EPERM"]),
        (vec!["io-uring-socket"], &["EPERM"]),
    ]);
    assert_filtered(
        &scene,
        &[
            ("io_uring_setup", "EPERM"),
            ("io_uring_enter", "EPERM"),
            ("io_uring_register", "EPERM"),
        ],
    );
}

#[test]
fn bpf_perf_and_userfaultfd() {
    let Some(scene) = Scene::new("surface_bpf") else {
        return;
    };
    assert_refused(
        &scene,
        &[
            (&["bpf-map"], "EPERM"),
            (&["bpf-program"], "EPERM"),
            (&["perf-event-open"], "EPERM"),
            (&["userfaultfd"], "EPERM"),
            (&["userfaultfd-user-mode"], "EPERM"),
        ],
    );
    scene.outside(&["userfaultfd-user-mode"]).assert_ok();
    assert_filtered(
        &scene,
        &[
            ("bpf", "EPERM"),
            ("perf_event_open", "EPERM"),
            ("userfaultfd", "EPERM"),
            ("fanotify_init", "EPERM"),
        ],
    );
}

#[test]
fn keys() {
    let Some(scene) = Scene::new("surface_keys") else {
        return;
    };
    scene.assert_stopped(&[
        (vec!["add-key"], &["EPERM"]),
        (vec!["keyctl-session"], &["EPERM"]),
        (vec!["keyctl-join"], &["EPERM"]),
    ]);
    assert_refused(&scene, &[(&["request-key"], "EPERM")]);
    scene.outside(&["request-key"]).assert_denied("ENOKEY");
}

#[test]
fn modules_and_another_kernel() {
    let Some(scene) = Scene::new("surface_modules") else {
        return;
    };
    assert_refused(
        &scene,
        &[
            (&["init-module"], "EPERM"),
            (&["finit-module"], "EPERM"),
            (&["delete-module"], "EPERM"),
            (&["kexec-load"], "EPERM"),
            (&["kexec-file-load"], "ENOSYS"),
            (&["reboot"], "EPERM"),
        ],
    );
    assert_filtered(
        &scene,
        &[
            ("init_module", "EPERM"),
            ("finit_module", "EPERM"),
            ("delete_module", "EPERM"),
            ("kexec_load", "EPERM"),
            ("kexec_file_load", "ENOSYS"),
            ("reboot", "EPERM"),
        ],
    );
}

#[test]
fn clocks_swap_accounting_and_the_kernels_log() {
    let Some(scene) = Scene::new("surface_machine") else {
        return;
    };
    assert_refused(
        &scene,
        &[
            (&["settimeofday"], "EPERM"),
            (&["clock-settime"], "EPERM"),
            (&["adjtimex"], "EPERM"),
            (&["clock-adjtime"], "EPERM"),
            (&["swapon"], "EPERM"),
            (&["swapoff"], "EPERM"),
            (&["acct"], "EPERM"),
            (&["quotactl"], "EPERM"),
            (&["syslog-size"], "EPERM"),
            (&["syslog-read"], "EPERM"),
            (&["setsid-vhangup"], "EPERM"),
        ],
    );
    let calls = [
        "settimeofday",
        "clock_settime",
        "adjtimex",
        "clock_adjtime",
        "swapon",
        "swapoff",
        "acct",
        "quotactl",
        "syslog",
        "vhangup",
        "fanotify_mark",
        "vmsplice",
        "kcmp",
        "pidfd_getfd",
        "name_to_handle_at",
        "open_by_handle_at",
    ];
    assert_filtered(&scene, &calls.map(|call| (call, "EPERM")));
}

/// Calls that no table of the filter knows behave as on a kernel that does not have them, new ones included.
#[test]
fn old_rare_and_future_calls() {
    let Some(scene) = Scene::new("surface_rare") else {
        return;
    };
    let calls = [
        "modify_ldt",
        "iopl",
        "ioperm",
        "sysfs",
        "ustat",
        "uselib",
        "lookup_dcookie",
        "nfsservctl",
        "mbind",
        "set_mempolicy",
        "migrate_pages",
        "move_pages",
        "memfd_secret",
        "process_mrelease",
        "cachestat",
        "statmount",
        "listmount",
        "lsm_list_modules",
        "quotactl_fd",
        "open_tree_attr",
        "clone3",
        "500",
        "548",
        "1000",
    ];
    assert_filtered(&scene, &calls.map(|call| (call, "ENOSYS")));
    let record = scene.outside(&["modify-ldt"]);
    assert_ne!(
        record.errno.as_deref(),
        scene.inside(&["modify-ldt"]).errno.as_deref(),
        "the control"
    );
}

/// CVE-2026-31431 wrote to other programs' files through `AF_ALG`; Dirty Frag used xfrm and RxRPC.
#[test]
fn socket_families() {
    let Some(scene) = Scene::new("surface_families") else {
        return;
    };
    let record = scene.inside(&["socket-sweep"]);
    let families = record.detail.as_object().unwrap();
    assert!(!record.ok && families.len() == 51, "{record:?}");
    for (family, answers) in families {
        let answers: Vec<&str> = answers
            .as_array()
            .unwrap()
            .iter()
            .map(|answer| answer.as_str().unwrap())
            .collect();
        match family.as_str() {
            "UNIX" => assert_eq!(answers[0], "ok"),
            // STREAM, DGRAM, RAW and so on: the raw ones are refused whatever the capabilities.
            "INET" | "INET6" => assert_eq!(
                (answers[0], answers[1], answers[2]),
                ("ok", "ok", "EPERM"),
                "{family}"
            ),
            "NETLINK" => assert_eq!((answers[1], answers[2]), ("ok", "ok")),
            _ => assert!(
                answers.iter().all(|answer| *answer == "EAFNOSUPPORT"),
                "{family}: {answers:?}"
            ),
        }
    }
    // ALG 38, VSOCK 40, PACKET 17, KEY 15, RXRPC 33, BLUETOOTH 31, CAN 29, XDP 44, NFC 39, TIPC 30, RDS 21.
    let named = [
        "socket:38:5",
        "socket:40:1",
        "socket:17:3:3",
        "socket:15:3:2",
        "socket:33:2:2",
        "socket:31:3:1",
        "socket:29:3:1",
    ];
    assert_filtered(&scene, &named.map(|call| (call, "EAFNOSUPPORT")));
    assert_filtered(
        &scene,
        &[
            ("socketpair:2:1", "EAFNOSUPPORT"),
            ("socketpair:38:1", "EAFNOSUPPORT"),
        ],
    );
    // With every capability over namespaces of its own, a program without a sandbox has packet sockets.
    scene
        .privileged(&["socket", "PACKET", "3", "768"])
        .assert_ok();
    scene
        .inside(&["vsock", "2", "1"])
        .assert_denied("EAFNOSUPPORT");
}

/// 43 % of the holes that user namespaces opened from 2020 to 2025 were in nf_tables.
#[test]
fn netlink_protocols() {
    let Some(scene) = Scene::new("surface_netlink") else {
        return;
    };
    let record = scene.inside(&["netlink-sweep"]);
    let protocols = record.detail.as_object().unwrap();
    assert!(!record.ok && protocols.len() == 32, "{record:?}");
    for (protocol, answer) in protocols {
        let expected = if protocol == "ROUTE" {
            "ok"
        } else {
            "EPROTONOSUPPORT"
        };
        assert_eq!(answer, expected, "{protocol}");
    }
    // NETFILTER 12, XFRM 6, AUDIT 9, GENERIC 16, CRYPTO 21, SOCK_DIAG 4, KOBJECT_UEVENT 15.
    let named = [
        "socket:16:3:12",
        "socket:16:3:6",
        "socket:16:2:9",
        "socket:16:3:16",
        "socket:16:3:21",
        "socket:16:3:4",
        "socket:16:3:15",
    ];
    assert_filtered(&scene, &named.map(|call| (call, "EPROTONOSUPPORT")));
    scene.outside(&["socket", "NETLINK", "3", "12"]).assert_ok();
    scene.outside(&["socket", "NETLINK", "3", "16"]).assert_ok();
}

#[test]
fn raw_sockets_and_rare_transports() {
    let Some(scene) = Scene::new("surface_transports") else {
        return;
    };
    // RAW with ICMP and with everything; then SCTP 132, DCCP 33, UDPLITE 136, MPTCP 262, L2TP 115.
    assert_filtered(
        &scene,
        &[
            ("socket:2:3:1", "EPERM"),
            ("socket:2:3:255", "EPERM"),
            ("socket:10:3:58", "EPERM"),
            ("socket:2:1:132", "EPROTONOSUPPORT"),
            ("socket:2:6:33", "EPROTONOSUPPORT"),
            ("socket:2:2:136", "EPROTONOSUPPORT"),
            ("socket:2:1:262", "EPROTONOSUPPORT"),
            ("socket:10:2:115", "EPROTONOSUPPORT"),
        ],
    );
    scene
        .inside(&["socket", "INET", "3", "255"])
        .assert_denied("EPERM");
    scene
        .privileged(&["socket", "INET", "3", "255"])
        .assert_ok();
    scene
        .inside(&["socket", "INET", "1", "262"])
        .assert_denied("EPROTONOSUPPORT");
    scene.inside(&["socket", "INET", "1", "6"]).assert_ok();
}

/// Filters are written for one table of calls; each other entry to the kernel is another table.
#[test]
#[cfg(target_arch = "x86_64")]
fn entries_of_other_architectures() {
    let Some(scene) = Scene::new("surface_entries") else {
        return;
    };
    let record = scene.inside(&["int80"]);
    // SIGSYS: the process is ended.
    assert_eq!(
        (record.ok, record.errno.as_deref(), &record.detail),
        (false, None, &serde_json::json!({ "signal": 31 }))
    );
    scene.inside(&["x32"]).assert_denied("ENOSYS");
    // getpid, execve and ptrace by their x32 numbers.
    let calls = ["0x40000027", "0x40000208", "0x40000209"];
    assert_filtered(&scene, &calls.map(|call| (call, "ENOSYS")));
    let outside = scene.outside(&["int80"]);
    assert!(
        outside.ok || outside.detail == serde_json::json!({ "signal": 11 }),
        "the control: {outside:?}"
    );
}

/// A filter of the agent's own can only add: nested sandboxes work, and undo nothing.
#[test]
fn another_filter_on_top() {
    let Some(scene) = Scene::new("surface_filters") else {
        return;
    };
    scene.inside(&["add-seccomp-filter"]).assert_ok();
    let probe = rcc_testkit::probe::path();
    // Under an allow-all filter with a listener of the agent's own, refusals stay what they are.
    let command = scene
        .run(&["-n"])
        .arg(&probe)
        .arg("filter-watch")
        .arg(&probe);
    let output = command
        .args(["filter-ask", "mount", "bpf", "clone:0x10000000", "getpid"])
        .output();
    let first = output.stdout_text();
    let record = Record::from_text(first.lines().next().unwrap());
    let expected = serde_json::json!({ "mount": "EPERM", "bpf": "EPERM", "clone:0x10000000": "EPERM", "getpid": "allowed" });
    assert_eq!(record.detail, expected);
}

#[test]
fn personalities_that_weaken_memory_protection() {
    let Some(scene) = Scene::new("surface_personality") else {
        return;
    };
    // READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, ADDR_COMPAT_LAYOUT, PER_LINUX32.
    let weak = [
        "personality:0x400000",
        "personality:0x100000",
        "personality:0x200000",
        "personality:8",
    ];
    assert_filtered(&scene, &weak.map(|call| (call, "EPERM")));
    // ADDR_NO_RANDOMIZE of debuggers, and asking.
    for (call, answer) in scene.filter(
        &["-n"],
        &[
            "personality:0x40000",
            "personality:0xffffffff",
            "personality:0",
        ],
    ) {
        assert_eq!(answer, "allowed", "{call}");
    }
}
