import { newId } from '../../backend/model/ids.ts';
import type { HostRecord } from '../../backend/model/records/index.ts';

/** The record of a host that exists only as records: 4 processors, 16 GiB of memory, 100 GiB of disk. */
export function hostRecord(change: Partial<HostRecord> = {}): HostRecord {
  const id = change.id ?? newId('host');
  return {
    id,
    name: id,
    hypervisor: 'simulated',
    accelerator: 'none',
    architecture: 'x86_64',
    version: '1',
    capacity: { cpus: 4, memory: 16 * 2 ** 30, disk: 100 * 2 ** 30 },
    created_at: '2026-01-01T00:00:00Z',
    ...change,
  };
}
