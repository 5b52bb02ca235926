#!/usr/bin/env bash
# clock.sh: runs that live through jumps of the machine's clock, a day to and fro; as root in the machine of ci/vm.sh, where it
# is nobody's clock. Ends with a line as libtest's.
set -Eeuo pipefail

readonly rcc=$PWD/target/debug/rcc day=86400
now=$(date +%s) up=$(cut -d. -f1 /proc/uptime)
readonly now up
cd "$(mktemp -d /home/tester/clock.XXXXXX)"
chown tester: .
trap 'echo "line $LINENO failed" >&2; echo "test result: FAILED. 0 passed; 1 failed;"' ERR
trap 'jump 0; rm -rf -- "$PWD"' EXIT

as_user() { setpriv --reuid tester --regid tester --init-groups env HOME=/home/tester "$@"; }
# jump SECONDS: sets the clock so far from the right time.
jump() { date --set="@$((now + $(cut -d. -f1 /proc/uptime) - up + $1))" >/dev/null; }
# is CODE COMMAND…: the command ends with that code.
is() {
	local wanted=$1 code=0
	shift
	"$@" || code=$?
	[[ $code -eq $wanted ]]
}

# A run lasts over a jump, and its age is told and never negative.
# shellcheck disable=SC2016 # the agent's shell expands
as_user "$rcc" --detach --name jump -n run -- sh -c 'until [ -e end ]; do sleep 0.1; done; exit 7' >/dev/null
jump $day
as_user "$rcc" ps | grep -E '^[^ ]+ +jump +running +2[34] h '
jump -$day
as_user "$rcc" ps | grep -E '^[^ ]+ +jump +running +0 s '
is 0 as_user "$rcc" exec jump -- true
as_user touch end
is 0 grep -x 7 <(as_user "$rcc" wait jump)
as_user "$rcc" ps -a | grep -F 'ended (7)'

# The limit of time goes by a clock that nobody sets.
for to in $day -$day; do
	jump 0
	started=$(cut -d. -f1 /proc/uptime)
	(sleep 1; jump "$to") &
	is 124 as_user "$rcc" --timeout 5s -n run -- sleep 600
	wait
	lasted=$(($(cut -d. -f1 /proc/uptime) - started))
	[[ $lasted -ge 5 && $lasted -lt 120 ]]
done

# What the user changed while the clock was behind the run's beginning is a conflict.
jump $day
as_user sh -c 'echo before >file'
as_user "$rcc" --cow -n run -- sh -c 'echo agent >file'
jump 0
as_user sh -c 'echo user >file'
is 1 as_user "$rcc" apply
is 0 grep -x user file
echo "test result: ok. 1 passed; 0 failed;"
