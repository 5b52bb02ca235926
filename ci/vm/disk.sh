#!/usr/bin/env bash
# disk.sh ROOT initramfs|system: what ci/vm.sh changes in the root file system of its machine; called by mmdebstrap.
#
# As little as possible: the machine is to be what Debian's installer leaves, but for the network. `initramfs` comes before
# the kernel's package, `system` at the end.
set -Eeuo pipefail

readonly root=$1
case $2 in
	initramfs)
		# Few modules: unpacking a hundred of them costs more than the rest of the start, without KVM.
		mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/etc/initramfs-tools/hooks" "$root/etc/initramfs-tools/scripts/init-top"
		printf 'MODULES=list\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/vm"
		# shellcheck disable=SC2016 # the hook expands
		printf '#!/bin/sh\n[ "$1" = prereqs ] && exit\n. /usr/share/initramfs-tools/hook-functions\nforce_load virtio_pci\nforce_load virtio_blk\nforce_load ext4\n' \
			>"$root/etc/initramfs-tools/hooks/vm"
		# The kernel has started with one processor (ci/vm.sh tells why).
		# shellcheck disable=SC2016 # the script expands
		printf '#!/bin/sh\n[ "$1" = prereqs ] && exit\nfor cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 1 >"$cpu"; done\n' \
			>"$root/etc/initramfs-tools/scripts/init-top/vm"
		chmod 755 "$root/etc/initramfs-tools/hooks/vm" "$root/etc/initramfs-tools/scripts/init-top/vm"
		;;
	system)
		echo vm >"$root/etc/hostname"
		echo '127.0.0.1 localhost vm' >"$root/etc/hosts"
		# Of an unreachable network, not of the machine that makes the disk.
		echo 'nameserver 192.0.2.53' >"$root/etc/resolv.conf"
		tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
		chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash tester
		# The user's systemd runs without a login, as `loginctl enable-linger` arranges it.
		mkdir -p "$root/var/lib/systemd/linger"
		touch "$root/var/lib/systemd/linger/tester"
		# A profile of a program that is not here confines nobody; reading a hundred of them takes half of the start.
		for profile in "$root"/etc/apparmor.d/*; do
			[[ -f $profile ]] || continue
			path=$(sed -nE 's#^profile +[^ ]+ +"?(/[A-Za-z0-9._/-]+)"? .*#\1#p' "$profile" | head -n 1)
			[[ -z $path || -e $root$path ]] || rm "$profile"
		done
		# Takes commands from the host; what it does is no part of the disk. On a slow machine the device comes later than this.
		cat >"$root/etc/systemd/system/vm-jobs.service" <<'UNIT'
[Unit]
Description=Commands from the host
After=systemd-user-sessions.service
[Service]
ExecStartPre=/bin/sh -c 'mkdir -p /run/vm; until mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 exchange /run/vm; do sleep 0.5; done'
TimeoutStartSec=infinity
ExecStart=/bin/bash /run/vm/guest.sh
KillMode=process
[Install]
WantedBy=multi-user.target
UNIT
		systemctl --quiet --root="$root" enable vm-jobs.service
		systemctl --quiet --root="$root" set-default multi-user.target
		# Work of a machine that lives for months, and a server that only tests need the program of.
		systemctl --quiet --root="$root" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
			fstrim.timer systemd-timesyncd.service ssh.service
		;;
esac
