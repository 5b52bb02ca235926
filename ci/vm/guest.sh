#!/usr/bin/env bash
# guest.sh: takes the host's jobs in the machine of ci/vm.sh, as root, and runs each as the account that it names.
#
# A job is a directory that the host makes in /run/vm/jobs: `command` is a line of shell, `start` says as whom and appears
# last. Its output goes to `stdout` and `stderr`, its exit code to `status`.
set -Eeuo pipefail

readonly exchange=/run/vm user=tester
tree=$(<"$exchange/tree")
readonly tree

# The host's build may have changed since the last job; the cache does not ask, but a new mount has none. While another job
# stands in the tree it stays as it is: the host serves one mount at a time.
mount_tree() {
	umount "$tree" 2>/dev/null || ! mountpoint --quiet "$tree" || return 0
	mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose tree "$tree"
}

# run AS COMMAND: in the tree, with the environment that such a process has by itself.
run() {
	local id
	id=$(id --user "$user")
	case $1 in
		root) cd "$tree" && exec env HOME=/root bash -c "$2" ;;
		session) exec runuser --login "$user" --command "cd $(printf %q "$tree") && $2" ;;
		user)
			exec runuser --user "$user" -- env --ignore-environment HOME="/home/$user" XDG_RUNTIME_DIR="/run/user/$id" \
				PATH=/usr/local/bin:/usr/bin:/bin systemd-run --user --quiet --pipe --wait --collect --service-type=exec \
				--working-directory="$tree" -- bash -c "$2"
			;;
	esac
}

# The path as on the host, open to everybody down to it.
mkdir -p "$tree"
parent=$(dirname "$tree")
while [[ $parent != / ]]; do
	chmod a+x "$parent"
	parent=$(dirname "$parent")
done
until systemctl is-active --quiet "user@$(id --user "$user").service"; do
	systemctl start "user@$(id --user "$user").service"
done
# The first netfilter hook of a kind and the last one switch a static key, and a machine died of it (ci/vm.sh tells how), so one
# of each stays, in the namespace of the machine, where no test looks.
{
	echo 'add table inet keys'
	printf 'add chain inet keys %s { type filter hook %s priority 0; }\n' prerouting{,} input{,} forward{,} output{,} postrouting{,}
} | nft -f -
# A pause without a process for it.
exec {pause}<> <(:)
printf 'Linux %s, systemd %s, up for %s s\n' "$(uname --kernel-release)" "$(systemctl --version | awk '{ print $2; exit }')" \
	"$(cut -d . -f 1 /proc/uptime)" >"$exchange/ready.new"
mv "$exchange/ready.new" "$exchange/ready"
while :; do
	for start in "$exchange"/jobs/*/start; do
		[[ -e $start ]] || continue
		job=$(dirname "$start")
		as=$(<"$start")
		rm "$start"
		mount_tree
		(
			status=0
			(run "$as" "$(<"$job/command")") </dev/null >"$job/stdout" 2>"$job/stderr" || status=$?
			echo "$status" >"$job/status.new"
			mv "$job/status.new" "$job/status"
		) &
	done
	read -rt 0.3 -u "$pause" || :
done
