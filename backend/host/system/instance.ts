/**
 * Several ucloud hosts may live on one machine (several data directories, a lab, tests). Everything that one of them
 * makes outside its data directory carries its instance name, so that each finds exactly its own things and leaves the
 * others' alone. The name follows from the path of the data directory: it is known again even when the directory is
 * lost.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:net';

/** 8 hex digits. */
export const instanceOf = (dataDir: string): string =>
  createHash('sha256').update(realpathSync(dataDir)).digest('hex').slice(0, 8);

/** `ip link … alias`: who made an interface, and for what (id of a network or VM). */
export const interfaceAlias = (instance: string, id: string): string => `ucloud:${instance}:${id}`;

/** The id in an alias of this instance, else undefined. */
export function idInAlias(instance: string, alias: string | undefined): string | undefined {
  const start = interfaceAlias(instance, '');
  return alias?.startsWith(start) ? alias.slice(start.length) : undefined;
}

/** Whether an interface is one of this or any other ucloud host on the machine. */
export const isAnyInstances = (alias: string | undefined): boolean => alias?.startsWith('ucloud:') ?? false;

/** Sockets and pid files: short (a Unix socket's path has at most 107 bytes), and gone after a reboot like the processes. */
export const runDirectory = (instance: string): string => `/run/ucloud/${instance}`;

/** nftables table of the instance, the same name in each family. */
export const tableName = (instance: string): string => `ucloud_${instance}`;

/**
 * First of 65536 user ids for VMs of the instance. systemd's table of uids (uids-gids.md) lists 1879048192 to
 * 2147483647 as used by nobody.
 */
export const defaultUidBase = (instance: string): number => 1879048192 + (Number.parseInt(instance, 16) % 4096) * 65536;

/**
 * Group of all VMs' processes of the instance, which a process without privileges can neither take nor leave: it tells
 * them from those of other instances that happen to have the same user ids.
 */
export const processGroupId = (instance: string): number => 1879048192 + (Number.parseInt(instance, 16) % 2 ** 28);

/**
 * Makes sure that one process at a time works on the data directory. An abstract socket is the lock: the kernel gives
 * it to one and frees it when that one ends, however it ends.
 */
export function lockInstance(instance: string): Promise<() => Promise<void>> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        cause.code === 'EADDRINUSE'
          ? new Error('another process of ucloud works on this data directory: stop it first')
          : cause,
      ),
    );
    server.listen(`\0ucloud-host-${instance}`, () => {
      server.unref();
      resolve(() => new Promise((closed) => server.close(() => closed())));
    });
  });
}
