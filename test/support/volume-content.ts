/** Contents of new volumes for tests of pools: a real image with patterns, which the real copy process reads. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { keyOf, rbdNode } from '../../backend/host/hypervisor/qemu/rbd-nodes.ts';
import { VolumeContents } from '../../backend/host/hypervisor/qemu/volume-contents.ts';
import type { VolumeSource } from '../../backend/host/storage/pools/pool-driver.ts';
import { SnapshotFiles } from '../../backend/host/storage/snapshot-files.ts';
import { run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { temporaryDirectory } from './stores.ts';

const exec = promisify(execFile);

/** Returns the node as options of a command line. */
const dotted = (node: object, path = ''): string =>
  Object.entries(node)
    .map(([key, value]) => (typeof value === 'object' ? dotted(value, `${path}${key}.`) : `${path}${key}=${value}`))
    .join(',');

/** Runs commands of qemu-io on the data of a volume, and returns the output. */
export async function qemuIo(source: VolumeSource, ...commands: readonly string[]): Promise<string> {
  const node = 'data';
  const args =
    source.kind === 'file'
      ? ['-f', 'raw', source.path]
      : [
          ...['--object', `secret,id=${keyOf(node)},format=base64,data=${source.key}`],
          ...['--image-opts', dotted(rbdNode(node, source))],
        ];
  const { stdout } = await exec('qemu-io', [...commands.flatMap((each) => ['-c', each]), ...args], { timeout: 60_000 });
  return stdout;
}

/** The size of the image in bytes. */
export const imageSize = 40 * 1024 ** 2;
/** Commands of qemu-io that fail unless a volume begins with the image. */
export const imagePatterns = ['read -P 5 1M 1M', 'read -P 0 2M 1M', 'read -P 6 39M 1M'];

/**
 * Creates an image, and returns the contents of a host with it.
 * @param firstUid the first user id of the copy processes; hosts that work at the same time have different ones
 */
export async function testContents(t: Test, { speed = 0, firstUid = 771_000 } = {}) {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'image.qcow2');
  await exec('qemu-img', ['create', '-q', '-f', 'qcow2', path, `${imageSize}`]);
  await exec('qemu-io', ['-f', 'qcow2', '-c', 'write -P 5 1M 1M', '-c', 'write -P 6 39M 1M', path]);
  const contents = new VolumeContents({
    snapshots: new SnapshotFiles(directory, run),
    image: async () => path,
    firstUid,
    socket: async (name) => join(directory, name),
    speed,
  });
  const of = (number: number) => contents.of({ image: idFrom('image', `img-${String(number).padStart(16, '0')}`) });
  return { path, of, contents };
}
