#!/bin/sh
# Installs ucloud-init into a system, or into the tree of an image that is being made.
# Usage: install.sh [TREE]      (default: /)
set -eu
tree=${1:-/}
tree=${tree%/}
here=$(dirname "$0")

put() { # MODE FILE TARGET
	mkdir -p "$tree${3%/*}"
	cp "$here/$2" "$tree$3"
	chmod "$1" "$tree$3"
}

put 755 ucloud-init /usr/sbin/ucloud-init
[ -e "$tree/etc/ucloud-init.conf" ] || put 644 ucloud-init.conf /etc/ucloud-init.conf
if [ -d "$tree/lib/systemd/system" ] || [ -d "$tree/usr/lib/systemd/system" ]; then
	put 644 ucloud-init.service /etc/systemd/system/ucloud-init.service
	mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
	ln -sf ../ucloud-init.service "$tree/etc/systemd/system/multi-user.target.wants/ucloud-init.service"
elif [ -e "$tree/sbin/openrc-run" ] || [ -e "$tree/usr/sbin/openrc-run" ]; then
	put 755 ucloud-init.openrc /etc/init.d/ucloud-init
	mkdir -p "$tree/etc/runlevels/default"
	ln -sf /etc/init.d/ucloud-init "$tree/etc/runlevels/default/ucloud-init"
elif [ -d "$tree/etc/rc2.d" ]; then
	put 755 ucloud-init.sysv /etc/init.d/ucloud-init
	for level in 2 3 4 5; do
		mkdir -p "$tree/etc/rc$level.d"
		ln -sf ../init.d/ucloud-init "$tree/etc/rc$level.d/S99ucloud-init"
	done
else
	echo "No systemd, OpenRC or System V init in ${tree:-/}: have its init run '/usr/sbin/ucloud-init boot' once at boot." >&2
fi
