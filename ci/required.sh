#!/usr/bin/env bash
# required.sh ACCOUNT: what the tests may not do without on a system with every package of packages.txt, for
# RCC_TEST_REQUIRE. `root` and `not-root` depend on the account: what one account's run leaves out, the other's does.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
own=not-root
[[ ${1:?usage: required.sh ACCOUNT} == root ]] && own=root,unprivileged-user
printf '%s,userns,claude-code' "$own"
awk '($1 == "build" || $1 == "test") && $3 != "-" { printf ",%s", $3 }' packages.txt
