/**
 * Opens RBD images in a running QEMU. QEMU gets monitors, user and key over its monitor, so it reads no file of the host
 * and no key is on a command line.
 */
import type { VolumeSource } from '../../storage/pools/pool-driver.ts';

/** An RBD image with the credentials of its pool. */
export type RbdSource = Extract<VolumeSource, { readonly kind: 'rbd' }>;

/** The part of a monitor that is needed here. */
interface Commands {
  execute(command: string, args?: object): Promise<unknown>;
}

/** Returns the name of the secret for a node. */
export const keyOf = (node: string): string => `key-${node}`;

/** The cache of an image (BlockdevCacheOptions of QEMU's QAPI). */
export interface RbdCache {
  /** The cluster has each write at its end. Default: librbd keeps writes until a flush. */
  readonly direct?: boolean;
}

/** Returns the node of an image (BlockdevOptionsRbd of QEMU's QAPI). The node is the only writer that QEMU expects. */
export const rbdNode = (node: string, { pool, image, user, server }: RbdSource, cache?: RbdCache): object => ({
  driver: 'rbd',
  'node-name': node,
  pool,
  image,
  user,
  server,
  // Without this, QEMU reads /etc/ceph/ceph.conf.
  conf: '/dev/null',
  'key-secret': keyOf(node),
  discard: 'unmap',
  // QEMU refuses an empty object.
  ...(cache && { cache }),
});

/**
 * Opens the image as a node. QEMU reads the key only while it opens the image, so the key is removed afterwards.
 * @param objects the names of the objects that QEMU has; a crash may have left the key there
 */
export async function openRbd(
  qmp: Commands,
  node: string,
  source: RbdSource,
  objects: ReadonlySet<string>,
  cache?: RbdCache,
): Promise<void> {
  const id = keyOf(node);
  if (objects.has(id)) await qmp.execute('object-del', { id });
  await qmp.execute('object-add', { 'qom-type': 'secret', id, format: 'base64', data: source.key });
  try {
    await qmp.execute('blockdev-add', rbdNode(node, source, cache));
  } finally {
    await qmp.execute('object-del', { id });
  }
}
