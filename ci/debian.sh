#!/usr/bin/env bash
# What the scripts that make Debian systems share, to be sourced: which packages, and from where.
#
# Must not change anything: it reads packages.txt and apt's configuration.
# shellcheck disable=SC2016 # apt expands the format
set -Eeuo pipefail

# packages SET: the names of one set of ci/packages.txt, separated by commas.
packages() {
	awk -v set="$1" '$1 == set { printf "%s%s", sep, $2; sep = "," }' "$(dirname -- "${BASH_SOURCE[0]}")/packages.txt"
}

# Where this machine gets Debian from: its own configuration decides, the repository names no host.
mirror() {
	local found
	found=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)' |
		awk '$1 == "Debian" && $2 == "Debian" && $3 == "main" && !found { print $4; found = 1 }')
	[[ -n $found ]] || { echo "apt knows no Debian source here; run apt-get update" >&2; return 1; }
	echo "$found"
}
