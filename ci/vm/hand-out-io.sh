#!/usr/bin/env bash
# hand-out-io.sh: lets users' systemd limit the disk, as docs/limits.md tells administrators; in the machine of ci/vm.sh, as root.
#
# The user's systemd starts anew: nothing of the user may run.
set -Eeuo pipefail

user=$(id --user tester)
mkdir -p /etc/systemd/system/user@.service.d
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/io.conf
systemctl daemon-reload
systemctl restart "user@$user.service"
until [[ -S /run/user/$user/bus ]]; do sleep 0.2; done
