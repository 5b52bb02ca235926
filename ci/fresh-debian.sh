#!/usr/bin/env bash
# The README on a fresh Debian: `ci/fresh-debian.sh bookworm|trixie [COMMAND…]`, as root.
#
# Builds a minimal root file system with mmdebstrap, adds nothing but a Rust toolchain, the registry's downloads and a
# clean clone of HEAD, and types the README's commands into it: as an unprivileged user, then as root. With --quick, root
# types the first only, with --first the user, too. With a COMMAND, runs that instead, as the unprivileged user in the system with all packages (to look
# around).
#
# The commands are read out of README.md, so what is tested is what is written. Works on private copies in namespaces
# of its own: nothing of it is seen by, or left on, the machine but the cache of the two archives.
#
# Environment: RCC_FRESH_CACHE  where the archives are kept (default ~/.cache/rcc-fresh)
#              RCC_FRESH_AGENTS a directory with npm's node_modules, for the tests of real agents (default: none)
#              RCC_FRESH_TARGET a directory for cargo's output that outlives the run (default: none, a clean build)
# shellcheck disable=SC2016 # single quotes are meant: another shell, apt or awk expands
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=ci/debian.sh
. ci/debian.sh

readonly suite=${1:?usage: ci/fresh-debian.sh bookworm|trixie [--quick|--first|COMMAND…]}
shift
readonly top=$PWD cache=${RCC_FRESH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rcc-fresh}
# One place for both accounts, so that root finds built what the user built.
readonly account=builder inside=/home/builder/rcc
[[ $EUID -eq 0 ]] || { echo "fresh-debian: needs root: it makes a system with a root user of its own" >&2; exit 2; }

work=$(mktemp -d /var/tmp/rcc-fresh.XXXXXX)
readonly work
chmod 755 "$work"
trap 'rm -rf --one-file-system -- "$work"' EXIT
# A signal ends the script by the same way.
trap 'exit 143' HUP INT TERM

say() { printf -- '-- %s, %s (%d s)\n' "$suite" "$*" "$SECONDS"; }

# archive KIND PACKAGES: makes a root file system, or finds it in the cache; prints its path.
archive() {
	local kind=$1 list=$2 from key file
	from=$(mirror)
	# A new week gets new packages, and another recipe another archive.
	key=$( (printf '%s\n' "$suite" "$list" "$from" "$(date +%G-%V)"; declare -f archive) | sha256sum | cut -c1-16)
	file=$cache/$suite-$kind-$key.tar
	if [[ ! -s $file ]]; then
		mkdir -p "$cache"
		rm -f -- "$cache/$suite-$kind-"*
		# Debian 13 makes private homes; root in a user namespace of its own may not enter another's.
		mmdebstrap --quiet --format=tar --variant=minbase --include="$list" \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--dpkgopt='force-unsafe-io' \
			--customize-hook="chroot \"\$1\" useradd --create-home --shell /bin/bash $account" \
			--customize-hook="chmod 755 \"\$1/home/$account\"" \
			--customize-hook='echo "127.0.0.1 localhost" >"$1/etc/hosts"' \
			--customize-hook='tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"' \
			"$suite" "$file.new" "$from" >&2
		mv "$file.new" "$file"
	fi
	echo "$file"
}

# The README's commands: the lines of its first block of shell commands.
commands() {
	awk '/^```sh$/ { inside = 1; next } /^```$/ && inside { exit } inside' README.md
}

# inside ROOT ACCOUNT COMMAND: types a command line in the clone, as the account, in the system at ROOT.
inside() {
	local root=$1 who=$2 command=$3 home=/root owner require path
	# As login(1) sets it: no sbin for users.
	path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	[[ $who == root ]] || { home=/home/$who; path=/usr/local/bin:/usr/bin:/bin; }
	say "$who: $command"
	require=$(ci/required.sh "$who")
	[[ -n ${RCC_FRESH_AGENTS:-} ]] || require=${require/,claude-code/}
	# By number: inside and outside need not agree on names.
	owner=$(awk -F: -v who="$who" '$1 == who { print $3 ":" $4 }' "$root/etc/passwd")
	chown -R --no-dereference "$owner" "$work/src" "$work/cargo-home" "$target"
	WORK=$work SYSROOT=$sysroot TREE=$inside TARGET=$target AGENTS=${RCC_FRESH_AGENTS:-} \
		timeout --kill-after=10 2400 ci/inside-root.sh "$root" \
		env --ignore-environment HOME="$home" USER="$who" LOGNAME="$who" LC_ALL=C.UTF-8 TERM=dumb \
		RCC_TEST_REQUIRE="$require" RCC_TEST_CLAUDE=/opt/agents/node_modules/.bin/claude \
		CARGO_HOME=/opt/cargo-home CARGO_NET_OFFLINE=true CARGO_TERM_COLOR=never \
		PATH="/opt/rust/bin:$path" \
		setpriv --reuid "$who" --regid "$who" --init-groups --inh-caps=-all \
		bash -c 'cd "$0" && eval "$1"' "$inside" "$command" </dev/null
}

say "root file systems"
minimal=$(archive minimal "$(packages build)")
mkdir "$work/minimal" "$work/cargo-home"
tar -C "$work/minimal" -xf "$minimal"
if [[ ${1:-} != --first ]]; then
	full=$(archive full "$(packages build),$(packages test)")
	mkdir "$work/full"
	tar -C "$work/full" -xf "$full"
fi

say "toolchain and sources"
git clone --quiet --no-hardlinks "$top" "$work/src"
(cd "$work/src" && cargo fetch --locked --quiet)
sysroot=$(rustc --print sysroot)
cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/cargo-home/"
target=${RCC_FRESH_TARGET:-$work}/target-$suite
mkdir -p "$target" "$work/src/target"

testers=("$account" root)
if [[ ${1:-} == --quick ]]; then
	testers=("$account")
	shift
elif [[ ${1:-} == --first ]]; then
	testers=()
	shift
fi
if [[ $# -ne 0 ]]; then
	inside "$work/full" "$account" "$*"
	exit
fi

mapfile -t readme < <(commands)
[[ ${#readme[@]} -eq 2 ]] || { echo "fresh-debian: README.md does not begin with two commands" >&2; exit 1; }
# The user first: root finds what the user built, and the files that root writes are in nobody's way. A failure does
# not keep the others from being told.
failures=0
attempt() {
	local status
	set +e
	(set -e; inside "$@")
	status=$?
	set -e
	if [[ $status -ne 0 ]]; then
		say "$2: FAILED ($status): $3"
		failures=$((failures + 1))
	fi
}
for who in "$account" root; do
	attempt "$work/minimal" "$who" "${readme[0]}"
done
for who in "${testers[@]}"; do
	attempt "$work/full" "$who" "${readme[1]}"
done
say "$failures commands failed"
[[ $failures -eq 0 ]]
