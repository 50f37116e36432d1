/** The parts of a host that snapshots of the built-in pool never use. */
import type { PartHost } from '../../backend/host/hypervisor/qemu/snapshot-parts.ts';

const unused = () => {
  throw new Error('the built-in pool needs no other pool');
};

export const noPool: PartHost['pool'] = unused;
export const noContents: PartHost['contents'] = { copy: unused, ofCopy: unused };
