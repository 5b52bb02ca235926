//! The kernel's own files: switches under `/proc` and `/sys` that act on the whole machine, memory and block devices.

use crate::scene::Scene;

/// Files that a program with user id 0 could write on the host; each is aimed at on its own, by name.
const SWITCHES: [&str; 15] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger",
    "/proc/dynamic_debug/control",
    "/proc/irq/default_smp_affinity",
    "/proc/mtrr",
    "/proc/pressure/memory",
    "/proc/fs/xfs/stat",
];

#[test]
fn switches_under_proc() {
    let Some(scene) = Scene::new("kernel_switches") else {
        return;
    };
    let mut there = 0;
    for path in SWITCHES {
        // Opened for appending nothing: what counts is whether it opens.
        let record = scene.inside(&["append", path, ""]);
        record.assert_denied_with_any(&["EROFS", "EACCES", "ENOENT", "EPERM"]);
        there += u32::from(record.errno.as_deref() != Some("ENOENT"));
    }
    assert!(there >= 5, "only {there} of them are there");
    // The control: root may on the host; anybody may where the switch belongs to namespaces of one's own.
    scene
        .privileged(&["append", "/proc/sys/net/ipv4/ip_forward", ""])
        .assert_ok();
    if scene.is_root() {
        scene
            .outside(&["append", "/proc/sys/kernel/core_pattern", ""])
            .assert_ok();
    }
}

#[test]
fn what_the_kernel_says_about_the_machine() {
    let Some(scene) = Scene::new("kernel_hidden") else {
        return;
    };
    let mut there = 0;
    for path in [
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/kallsyms",
        "/proc/keys",
        "/proc/key-users",
        "/proc/kpagecount",
        "/proc/kpageflags",
        "/proc/kpagecgroup",
        "/proc/timer_list",
        "/proc/config.gz",
        "/proc/vmcore",
        "/proc/slabinfo",
        "/proc/vmallocinfo",
        "/proc/pagetypeinfo",
    ] {
        scene
            .inside(&["read", path])
            .assert_denied_with_any(&["EACCES", "ENOENT", "EPERM"]);
        there += u32::from(scene.outside(&["stat", path]).ok);
    }
    assert!(
        there >= 5,
        "the control: only {there} of them are on this machine"
    );
    for directory in ["/proc/acpi", "/proc/scsi"] {
        scene
            .inside(&["list", directory])
            .assert_denied_with_any(&["EACCES", "ENOENT"]);
    }
}

#[test]
fn sysfs_and_control_groups() {
    let Some(scene) = Scene::new("kernel_sysfs") else {
        return;
    };
    for path in [
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/debug",
        "/sys/kernel/security",
        "/sys/module",
        "/sys/power/state",
        "/sys/class/net",
        "/sys/firmware/efi/efivars",
        "/sys/bus/pci/rescan",
        "/sys/devices/virtual",
    ] {
        scene.inside(&["read", path]).assert_denied("ENOENT");
        scene.inside(&["append", path, ""]).assert_denied("ENOENT");
    }
    assert!(
        scene.outside(&["stat", "/sys/class/net"]).ok && scene.outside(&["stat", "/sys/module"]).ok,
        "the control"
    );
    // What programs size themselves by is there, and read-only.
    scene
        .inside(&["read", "/sys/devices/system/cpu/online"])
        .assert_ok();
    let enabled = "/sys/kernel/mm/transparent_hugepage/enabled";
    scene
        .inside(&["append", enabled, ""])
        .assert_denied_with_any(&["EROFS", "EACCES", "ENOENT"]);
    scene
        .inside(&["mkdir", "/sys/fs/cgroup"])
        .assert_denied_with_any(&["EROFS", "EACCES", "ENOENT"]);
    // Its own control group is all that it is told.
    let record = scene.inside(&["read", "/proc/self/cgroup"]);
    let text = record.assert_ok().detail.as_str().unwrap();
    assert!(text.lines().all(|line| line.ends_with(":/")), "{text}");
}

#[test]
fn memory_disks_and_other_devices() {
    let Some(scene) = Scene::new("kernel_devices") else {
        return;
    };
    for path in [
        "/dev/mem",
        "/dev/kmem",
        "/dev/port",
        "/dev/kmsg",
        "/dev/sda",
        "/dev/vda",
        "/dev/nvme0n1",
        "/dev/dm-0",
        "/dev/loop0",
        "/dev/loop-control",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/vhost-net",
        "/dev/vhost-vsock",
        "/dev/vsock",
        "/dev/userfaultfd",
        "/dev/console",
        "/dev/tty0",
        "/dev/tty1",
        "/dev/vcs",
        "/dev/input",
        "/dev/uinput",
        "/dev/dri",
        "/dev/mapper/control",
        "/dev/cpu/0/msr",
        "/dev/hpet",
        "/dev/rfkill",
        "/dev/autofs",
        "/dev/btrfs-control",
        "/dev/cuse",
        "/dev/ppp",
        "/dev/snd",
        "/dev/video0",
        "/dev/bus/usb",
        "/dev/hidraw0",
        "/dev/mqueue",
        "/dev/hugepages",
        "/dev/initctl",
        "/dev/log",
    ] {
        scene.inside(&["stat", path]).assert_denied("ENOENT");
    }
    let shown = [
        "/dev/kmsg",
        "/dev/mem",
        "/dev/vda",
        "/dev/sda",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/console",
    ];
    assert!(
        shown.iter().any(|path| scene.outside(&["stat", path]).ok),
        "the control: some of them are on this machine"
    );
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"] {
        scene.inside(&["open-device", path, "w"]).assert_ok();
    }
}

#[test]
fn making_device_files() {
    let Some(scene) = Scene::new("kernel_mknod") else {
        return;
    };
    // 1:1 is /dev/mem, 1:3 /dev/null, 8:0 the first SCSI disk, 254:0 a virtual one, 5:1 the console.
    for (kind, major, minor) in [
        ("char", "1", "1"),
        ("char", "1", "3"),
        ("block", "8", "0"),
        ("block", "254", "0"),
        ("char", "5", "1"),
    ] {
        for directory in [".", "/tmp", "/dev/shm", &scene.path("home")] {
            let path = format!("{directory}/node");
            scene
                .inside(&["mknod", &path, kind, major, minor])
                .assert_denied("EPERM");
        }
        if scene.is_root() {
            let path = scene.path(&format!("outside/{kind}-{major}-{minor}"));
            scene
                .outside(&["mknod", &path, kind, major, minor])
                .assert_ok();
        }
    }
    // The control for everybody: the call itself is open, for what needs no privilege.
    scene.inside(&["mknod", "fifo", "fifo"]).assert_ok();
}

/// A device file that lies in a granted directory (only root can have put it there) is a useless file inside.
#[test]
fn device_files_that_lie_in_a_granted_directory() {
    let Some(scene) = Scene::new("kernel_granted_devices") else {
        return;
    };
    for place in ["home/work/project", "home/git/library"] {
        let path = scene.path(&format!("{place}/zero"));
        if scene.is_root() {
            scene
                .outside(&["mknod", &path, "char", "1", "5"])
                .assert_ok();
            scene.outside(&["open-device", &path]).assert_ok();
            scene
                .inside(&["open-device", &path])
                .assert_denied("EACCES");
        } else {
            // For an ordinary user the flag that does it must be there all the same.
            let mounts = scene.inside(&["mounts"]).detail.to_string();
            let at = scene.path(if place.ends_with("library") {
                "home/git"
            } else {
                place
            });
            let line = mounts
                .split('"')
                .find(|line| line.starts_with(&format!("{at} ")))
                .unwrap();
            assert!(line.contains("nodev"), "{line}");
        }
    }
}
