#!/bin/sh
# Installs ucloud-init into a system, or into the directory tree of a new image.
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
# Two programs that set the guest up would both run the user data.
[ ! -d "$tree/etc/cloud" ] || : > "$tree/etc/cloud/cloud-init.disabled"
[ -e "$tree/etc/ucloud-init.conf" ] || put 644 ucloud-init.conf /etc/ucloud-init.conf
if [ -d "$tree/lib/systemd/system" ] || [ -d "$tree/usr/lib/systemd/system" ]; then
	mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
	for unit in ucloud-init.service ucloud-init-watch.service; do
		put 644 "$unit" "/etc/systemd/system/$unit"
		ln -sf "../$unit" "$tree/etc/systemd/system/multi-user.target.wants/$unit"
	done
elif [ -e "$tree/sbin/openrc-run" ] || [ -e "$tree/usr/sbin/openrc-run" ]; then
	mkdir -p "$tree/etc/runlevels/default"
	for service in ucloud-init ucloud-init-watch; do
		put 755 "$service.openrc" "/etc/init.d/$service"
		ln -sf "/etc/init.d/$service" "$tree/etc/runlevels/default/$service"
	done
elif [ -d "$tree/etc/rc2.d" ]; then
	put 755 ucloud-init.sysv /etc/init.d/ucloud-init
	for level in 2 3 4 5; do
		mkdir -p "$tree/etc/rc$level.d"
		ln -sf ../init.d/ucloud-init "$tree/etc/rc$level.d/S99ucloud-init"
	done
else
	echo "No systemd, OpenRC or System V init in ${tree:-/}: have its init run '/usr/sbin/ucloud-init boot' once at boot, and '/usr/sbin/ucloud-init watch' after it." >&2
fi
