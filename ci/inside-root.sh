#!/usr/bin/env bash
# inside-root.sh ROOT COMMAND…: runs a command with ROOT as the root directory, in namespaces of its own, as root.
#
# By pivot_root, not chroot: a process below a chroot may not create user namespaces, which is what rcc is about.
# The command sees its own processes, a loopback interface and no other, and a small /dev. From fresh-debian.sh it
# gets, by variables, the toolchain (SYSROOT, read-only), cargo's home (WORK), the clone and cargo's
# output (TREE, TARGET), and agents from npm (AGENTS, read-only, may be empty).
set -Eeuo pipefail

if [[ ${1:-} != --stage2 ]]; then
	exec unshare --mount --pid --fork --kill-child --net --ipc --uts --propagation private "$0" --stage2 "$@"
fi
root=$2
shift 2

hostname fresh 2>/dev/null || :
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
[[ -d $root/sys/fs/cgroup ]] && mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty net/tun kvm; do
	[[ -c /dev/$node ]] || continue
	mkdir -p "$(dirname "$root/dev/$node")"
	touch "$root/dev/$node"
	mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
	ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"
done
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root/opt/rust" "$root/opt/cargo-home" "$root$TREE"
mount --bind "$SYSROOT" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"
mount --bind "$WORK/cargo-home" "$root/opt/cargo-home"
mount --bind "$WORK/src" "$root$TREE"
mount --bind "$TARGET" "$root$TREE/target"
if [[ -n $AGENTS ]]; then
	mkdir -p "$root/opt/agents"
	mount --bind "$AGENTS" "$root/opt/agents"
	mount -o remount,bind,ro "$root/opt/agents"
fi
ip link set lo up 2>/dev/null || :
cd "$root"
pivot_root . mnt
umount -l /mnt
cd /
exec "$@"
