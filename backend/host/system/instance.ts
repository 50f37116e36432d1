/**
 * Instance names. Several ucloud hosts may run on one machine (several data directories, a lab, tests). Each host puts
 * its instance name into everything that it creates outside its data directory. So each host finds its own things and
 * leaves the others alone. The name depends only on the path of the data directory, so it stays the same after a loss
 * of the directory.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:net';

/** Returns the instance name of a data directory: 8 hex digits. */
export const instanceOf = (dataDir: string): string =>
  createHash('sha256').update(realpathSync(dataDir)).digest('hex').slice(0, 8);

/**
 * Returns the value for `ip link … alias`: the instance that created the interface, and the id of its network or VM.
 */
export const interfaceAlias = (instance: string, id: string): string => `ucloud:${instance}:${id}`;

/** Returns the id in an alias of this instance; undefined for any other alias. */
export function idInAlias(instance: string, alias: string | undefined): string | undefined {
  const start = interfaceAlias(instance, '');
  return alias?.startsWith(start) ? alias.slice(start.length) : undefined;
}

/** Tells whether an interface belongs to this or any other ucloud host on the machine. */
export const isUcloudAlias = (alias: string | undefined): boolean => alias?.startsWith('ucloud:') ?? false;

/**
 * Returns the directory for sockets and pid files. It is short, because the path of a Unix socket has at most 107
 * bytes. It is empty after a reboot, when all processes are gone too.
 */
export const runDirectory = (instance: string): string => `/run/ucloud/${instance}`;

/**
 * Returns the directory of the files of bird. Only root enters `runDirectory`, and bird is not root. It is empty after a
 * reboot as well.
 */
export const birdDirectory = (instance: string): string => `/run/ucloud-bird-${instance}`;

/** Returns the name of the instance's nftables table, the same in each address family. */
export const tableName = (instance: string): string => `ucloud_${instance}`;

/**
 * Returns the first of 65536 user ids for the VMs of the instance. The range 1879048192 to 2147483647 is unused
 * according to systemd's table of user ids (uids-gids.md).
 */
export const defaultUidBase = (instance: string): number => 1879048192 + (Number.parseInt(instance, 16) % 4096) * 65536;

/**
 * Returns the group of all VM processes of the instance. A process without privileges can neither join nor leave it, so
 * it separates these processes from those of other instances with the same user ids.
 */
export const processGroupId = (instance: string): number => 1879048192 + (Number.parseInt(instance, 16) % 2 ** 28);

/**
 * Locks the data directory for this process. The lock is an abstract Unix socket: the kernel gives it to one process
 * and releases it at the end of that process. Returns a function that unlocks.
 * @throws Error if another process holds the lock
 */
export function lockInstance(instance: string): Promise<() => Promise<void>> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        cause.code === 'EADDRINUSE'
          ? new Error('another ucloud process uses this data directory; stop that process first')
          : cause,
      ),
    );
    server.listen(`\0ucloud-host-${instance}`, () => {
      server.unref();
      resolve(() => new Promise((closed) => server.close(() => closed())));
    });
  });
}
