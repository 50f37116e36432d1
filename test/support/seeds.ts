/** The contents of seed disks in tests. */
import { type GuestConfig, type NoCloudDocuments, noCloudDocuments } from '../../backend/model/guest/no-cloud.ts';

/** Returns the documents of a VM without keys and user data. */
export const testSeed = (config: Partial<GuestConfig> = {}): NoCloudDocuments =>
  noCloudDocuments({
    id: 'vm-0000000000000001',
    name: 'vm-1',
    sshKeys: [],
    interfaces: [],
    networkConfig: 'v1',
    ...config,
  });
