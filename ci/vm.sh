#!/usr/bin/env bash
# A Debian 13 machine as users have it, in QEMU without KVM: systemd, cgroup v2, AppArmor, an unprivileged user.
#
#   ci/vm.sh [SUITE…]           runs the suites of ci/vm/suites.txt in it, or the named ones (`all`: every one)
#   ci/vm.sh [AS] -- COMMAND…   runs a command in it, in this tree; output and exit code are the command's. One word is a
#                               line for the shell, several are a command and its arguments
#
# AS is --user (default: in a unit of the user's own systemd, as programs of a desktop), --session (in a login session, as
# with ssh) or --root. --keep leaves the machine running for the next calls from this tree, --stop ends it.
#
# Debian's packages make the disk, once a week; that needs root, the rest does not. What a run writes to the disk is
# gone after it. The machine has no network. This tree is at its own path in it, read-only: what cargo builds here runs
# there, nothing is compiled in it. The newest output is in target/vm.
#
# Environment: RCC_FRESH_CACHE  where the disk is kept (default ~/.cache/rcc-fresh)
#              RCC_VM_CPU       QEMU's model of the processor, RCC_VM_MEMORY in MiB
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=ci/debian.sh
. ci/debian.sh

readonly top=$PWD state=$PWD/target/vm cache=${RCC_FRESH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rcc-fresh}
readonly exchange=$state/exchange boot_seconds=900
keep=false as=user command="" suites=()

say() { printf -- '-- vm, %s (%d s)\n' "$*" "$SECONDS" >&2; }
fail() {
	echo "vm: $*" >&2
	exit 125
}

# The process of the machine that this tree has running, if any.
running() {
	local pid
	pid=$(cat "$state/pid" 2>/dev/null) || return 1
	# A number may have gone to another process meanwhile.
	tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep --quiet --fixed-strings "$exchange" || return 1
	echo "$pid"
}

stop() {
	local pid
	if pid=$(running); then
		kill "$pid"
		while [[ -e /proc/$pid ]]; do sleep 0.1; done
	fi
	rm -f -- "$state/pid"
}

# Makes the disk, or finds it in the cache; prints its directory, with disk, vmlinuz and initrd.
disk() {
	local list from key directory root
	# What is not for tests in the machine: nothing is compiled there, no bench runs, no other machine is made.
	list=$(packages vm),git,ca-certificates,$(packages test | tr , '\n' |
		grep --invert-match --line-regexp --extended-regexp \
			'default-jdk-headless|musl-tools|g\+\+|npm|shellcheck|mmdebstrap|e2fsprogs|qemu-system-x86|iperf3' | paste --serial --delimiters=,)
	from=$(mirror)
	# A new week gets new packages, and another recipe another disk.
	key=$( (printf '%s\n' "$list" "$from" "$(date +%G-%V)"; declare -f disk; cat ci/vm/disk.sh) | sha256sum | cut -c1-16)
	directory=$cache/vm-$key
	if [[ ! -e $directory/disk ]]; then
		[[ $EUID -eq 0 ]] || fail "there is no disk in $cache: let root run this once, or set RCC_FRESH_CACHE to root's"
		say "making the disk"
		mkdir -p "$cache"
		# One at a time; another may have made it meanwhile. Older trees may still want theirs for a week.
		exec 9>"$cache/vm.lock"
		flock 9
		[[ ! -e $directory/disk ]] || { echo "$directory"; return; }
		find "$cache" -maxdepth 1 -name 'vm-*' -mtime +7 -exec rm -rf -- {} +
		rm -rf --one-file-system -- "$directory"
		mkdir "$directory" "$directory/new"
		tr , '\n' <<<"$list" >"$directory/new/packages"
		root=$directory/new/root
		# shellcheck disable=SC2016 # mmdebstrap's shell expands
		mmdebstrap --quiet --variant=minbase --include="$list" \
			--aptopt='APT::Install-Recommends "false"' \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='force-unsafe-io' \
			--essential-hook='ci/vm/disk.sh "$1" initramfs' \
			--customize-hook='ci/vm/disk.sh "$1" system' \
			trixie "$root" "$from" >&2
		cp --dereference "$root/vmlinuz" "$root/initrd.img" "$directory/new/"
		truncate --size=6G "$directory/new/disk"
		mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$directory/new/disk"
		rm -rf --one-file-system -- "$root"
		mv "$directory"/new/* "$directory/"
		rmdir "$directory/new"
		say "the disk is made"
	fi
	echo "$directory"
}

# Starts the machine and waits until it takes jobs.
boot() {
	local disk=$1 pid
	rm -rf -- "$exchange"
	mkdir -p "$exchange/jobs" "$exchange/logs" "$exchange/logs-io"
	# The machine's users have other numbers.
	chmod 1777 "$exchange/logs" "$exchange/logs-io"
	cp ci/vm/guest.sh "$disk/packages" "$exchange/"
	printf '%s\n' "$top" >"$exchange/tree"
	# norandmaps: QEMU before 8 translates a program anew for every address it is found at, and everything takes seven
	# times as long.
	# maxcpus=1: of about a hundred starts one died of "Oops: int3", because the kernel changes its own code (static keys) and
	# QEMU had translated for the other processor what stood there for a moment. The others come when that is done.
	# panic=-1: with -no-reboot, QEMU ends instead of waiting.
	qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -machine q35 -cpu "${RCC_VM_CPU:-max}" -smp 2 -m "${RCC_VM_MEMORY:-3072}" \
		-nodefaults -no-user-config -display none -no-reboot -nic none -serial "file:$state/console.log" \
		-kernel "$disk/vmlinuz" -initrd "$disk/initrd.img" \
		-append "console=ttyS0 quiet root=/dev/vda rw mitigations=off no_timer_check random.trust_cpu=on norandmaps maxcpus=1 panic=-1 systemd.show_status=0" \
		-drive "file=$disk/disk,if=virtio,format=raw,snapshot=on,cache=unsafe" -device virtio-rng-pci \
		-virtfs "local,path=$exchange,mount_tag=exchange,security_model=none,multidevs=remap" \
		-virtfs "local,path=$top,mount_tag=tree,security_model=none,multidevs=remap,readonly=on" \
		-daemonize -pidfile "$state/pid" >"$state/qemu.log" 2>&1 || fail "QEMU does not start: $(<"$state/qemu.log")"
	until [[ -e $exchange/ready ]]; do
		if ! running >/dev/null || ((SECONDS > boot_seconds + started)); then
			tail -n 40 "$state/console.log" >&2
			fail "the machine does not come up; $state/console.log has what it said"
		fi
		sleep 0.2
	done
	pid=$(<"$state/pid")
	say "up, process $pid: $(<"$exchange/ready")"
}

# job AS COMMAND: runs a line of shell in the machine; its output comes as it is written.
job() {
	local place pid waiter
	pid=$(running) || fail "the machine is gone"
	place=$(mktemp -d "$exchange/jobs/XXXXXX")
	chmod 755 "$place"
	printf '%s\n' "$1" >"$place/as"
	printf '%s\n' "$2" >"$place/command"
	: >"$place/stdout"
	: >"$place/stderr"
	mv "$place/as" "$place/start"
	(until [[ -e $place/status || ! -e /proc/$pid ]]; do sleep 0.1; done) &
	waiter=$!
	# They read what is left after the waiter has ended.
	tail --bytes=+1 --follow --sleep-interval=0.2 --pid=$waiter "$place/stderr" >&2 &
	tail --bytes=+1 --follow --sleep-interval=0.2 --pid=$waiter "$place/stdout"
	wait
	if [[ ! -e $place/status ]]; then
		tail -n 40 "$state/console.log" >&2
		fail "the machine ended before the command did; $state/console.log has what it said"
	fi
	return "$(<"$place/status")"
}

# The programs of the wanted suites, built as `cargo xtask test` does, one line each: NAME PATH ARGUMENTS.
build() {
	local built name arguments path
	say "building"
	cargo build --quiet --locked --package rcc >&2
	cargo build --quiet --locked --package rcc-testkit --bins --features servers,probe >&2
	built=$(cargo test --locked --workspace --no-run 2>&1) || fail "cannot build the tests:"$'\n'"$built"
	built=$(sed -nE 's#^ *Executable tests/([a-z_0-9]+)\.rs \((.*)\)$#\1 \2#p' <<<"$built")
	if [[ $* == all ]]; then
		echo "$built"
		return
	fi
	while read -r name arguments; do
		[[ $# -eq 0 || " $* " == *" $name "* ]] || continue
		path=$(awk -v name="$name" '$1 == name { print $2 }' <<<"$built")
		[[ -n $path ]] || fail "ci/vm/suites.txt: there is no test program $name"
		echo "$name $path $arguments"
	done < <(sed -E 's/ *#.*//; /^$/d' ci/vm/suites.txt; for name; do echo "$name"; done | grep --invert-match --line-regexp --file=<(sed -E 's/[ #].*//; /^$/d' ci/vm/suites.txt))
}

while [[ $# -ne 0 ]]; do
	case $1 in
		--keep) keep=true ;;
		--stop) stop; exit ;;
		--user | --session | --root) as=${1#--} ;;
		--)
			shift
			[[ $# -ne 0 ]] || fail "no command after --"
			if [[ $# -eq 1 ]]; then command=$1; else printf -v command '%q ' "$@"; fi
			break
			;;
		-*) fail "no such flag: $1" ;;
		*) suites+=("$1") ;;
	esac
	shift
done

command -v qemu-system-x86_64 >/dev/null || fail "there is no qemu-system-x86_64: apt-get install qemu-system-x86"
mkdir -p "$state"
if [[ -z $command ]]; then
	build "${suites[@]}" >"$state/suites"
fi
if ! running >/dev/null; then
	directory=$(disk)
	started=$SECONDS
	$keep || trap stop EXIT
	trap 'exit 143' HUP INT TERM
	boot "$directory"
fi
if [[ -n $command ]]; then
	job "$as" "$command"
else
	cp "$state/suites" "$exchange/suites"
	status=0
	job "$as" "bash ci/vm/run-suites.sh logs" || status=$?
	if [[ ${#suites[@]} -eq 0 || ${suites[*]} == all ]]; then
		job root ci/vm/clock.sh || status=$?
	fi
	# Debian's systemd does not hand out the disk to users, and a limit of it was refused above. Here it is handed out.
	if grep --quiet '^limits ' "$state/suites"; then
		sed -nE 's/^limits ([^ ]+).*/limits \1 a_disk_hog/p' "$state/suites" >"$exchange/suites"
		job root ci/vm/hand-out-io.sh || status=$?
		# /tmp is in memory.
		job "$as" "RCC_TEST_REQUIRE=limits-io TMPDIR=\$HOME bash ci/vm/run-suites.sh logs-io" || status=$?
	fi
	say "suites ended with $status"
	exit "$status"
fi
