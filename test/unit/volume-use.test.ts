/** Whether a guest uses a volume, by the answers of its guest agent. */
import fc from 'fast-check';
import t from 'tap';
import { disksWithoutSerial, type GuestDisks, volumeUse } from '../../backend/model/guest/volume-use.ts';

const volume = 'vol-0123456789abcdef';
const root = { name: '/dev/vda', partition: false, address: { serial: 'vm-1' } };
const data = { name: '/dev/vdb', partition: false, address: { serial: volume } };
const part = { name: '/dev/vdb1', partition: true, dependencies: ['/dev/vdb'] };
const logical = { name: '/dev/dm-0', partition: false, dependencies: ['/dev/vdb1'] };
const rootMount = { name: 'vda1', mountpoint: '/', type: 'ext4', disk: [{ dev: '/dev/vda1' }] };
const noSwap = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n';

const guest = (change: Partial<GuestDisks> = {}): GuestDisks => ({
  disks: [root, data],
  fileSystems: [rootMount],
  swaps: noSwap,
  mounts: '/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n',
  serials: new Map(),
  ...change,
});

t.test('the use of a volume follows from the answers', async (t) => {
  const mount = (fields: object) => [rootMount, { mountpoint: '/srv', type: 'ext4', ...fields }];
  const cases: readonly [name: string, facts: Partial<GuestDisks>, use: string | undefined][] = [
    ['not used', {}, undefined],
    ['the guest does not see it', { disks: [root] }, undefined],
    ['an unused partition', { disks: [part, root, data] }, undefined],
    [
      'mounted',
      { fileSystems: mount({ name: 'vdb', disk: [{ dev: '/dev/vdb' }] }) },
      'The guest has mounted it at /srv.',
    ],
    ['mounted, by serial', { fileSystems: mount({ disk: [{ serial: volume }] }) }, 'The guest has mounted it at /srv.'],
    ['mounted, by name', { fileSystems: mount({ name: 'vdb', disk: [] }) }, 'The guest has mounted it at /srv.'],
    [
      'a mounted partition',
      { disks: [root, part, data], fileSystems: mount({ disk: [{ dev: '/dev/vdb1' }] }) },
      'The guest has mounted it at /srv.',
    ],
    ['LVM on a partition', { disks: [logical, part, root, data] }, 'The device /dev/dm-0 of the guest is on it.'],
    ['swap', { swaps: `${noSwap}/dev/vdb  partition 1 0 -2\n` }, 'The guest uses it as swap.'],
    [
      'swap on a partition',
      { disks: [root, data, part], swaps: `${noSwap}/dev/vdb1  partition 1 0 -2\n` },
      'The guest uses it as swap.',
    ],
    ...['zfs', 'btrfs', 'bcachefs'].map((kind): [string, Partial<GuestDisks>, string] => [
      `a pool of ${kind} elsewhere`,
      { mounts: `tank /tank ${kind} rw 0 0\n` },
      `The guest may use it in a file system of the kind ${kind}, whose disks its agent does not tell.`,
    ]),
    [
      'control characters',
      { fileSystems: mount({ disk: [{ dev: '/dev/vdb' }], mountpoint: '/a\u001b[2J\n' }) },
      'The guest has mounted it at /a [2J .',
    ],
    [
      'no serial number',
      { disks: [root, { name: '/dev/vdb' }] },
      'The guest agent does not tell which disk /dev/vdb is.',
    ],
    ['no list', { disks: null }, 'The guest agent sent no list of devices.'],
    ['no list of file systems', { fileSystems: {} }, 'The guest agent sent no list of devices.'],
    ['a false entry', { fileSystems: [7] }, 'The guest agent sent an unknown form.'],
    ['a disk without name', { disks: [root, {}] }, 'The guest agent named no device.'],
    ['false dependencies', { disks: [root, { ...part, dependencies: 7 }] }, 'The guest agent sent an unknown form.'],
    [
      'too many entries',
      { disks: Array.from({ length: 5_000 }, () => root) },
      'The guest agent sent no list of devices.',
    ],
  ];
  for (const [name, facts, use] of cases) t.equal(volumeUse(volume, guest(facts)), use, name);
  const serials = new Map([['/dev/vdb', volume]]);
  const disks = [root, { name: '/dev/vdb', partition: false }];
  t.strictSame(disksWithoutSerial(disks), ['/dev/vdb']);
  t.equal(volumeUse(volume, guest({ disks, serials })), undefined, 'a serial number from elsewhere');
  const mounted = guest({ disks, serials, fileSystems: mount({ disk: [{ dev: '/dev/vdb' }] }) });
  t.match(volumeUse(volume, mounted), /mounted/);
});

t.test('answers of any form give a short sentence or nothing, and never fail', async () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), fc.string(), fc.string(), (disks, fileSystems, swaps, mounts) => {
      const use = volumeUse(volume, guest({ disks, fileSystems, swaps, mounts }));
      if (use !== undefined && (use.length > 300 || /\p{C}/u.test(use))) throw new Error(use);
      disksWithoutSerial(disks);
    }),
  );
});
