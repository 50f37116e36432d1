/** Accepted and refused images. Files come from users, and qemu-img would open the files that they refer to. */
import fc from 'fast-check';
import t from 'tap';
import { recognizeDiskImage } from '../../backend/model/image/disk-image.ts';
import { isPublicAddress } from '../../backend/model/network/public-address.ts';
import { bytesOfImage, type Qcow2Fields, qcow2Image, rawDisk } from '../support/disk-images.ts';
import { hostileForeignImages, vdiImage, vhdxImage, vmdkImage } from '../support/foreign-images.ts';

const recognize = (file: Buffer) => recognizeDiskImage(bytesOfImage(file));

t.test('a qcow2 that is complete in itself is accepted', async (t) => {
  const accepted: Record<string, Qcow2Fields> = {
    'version 3': {},
    'version 2': { version: 2 },
    'compressed with zstd': { incompatible: 8n, compression: 1 },
    'extended entries': { incompatible: 16n },
    'names of features': { extensions: [{ type: 0x6803f857, data: Buffer.alloc(48) }] },
    'header of the least length': { headerLength: 104 },
  };
  for (const [name, fields] of Object.entries(accepted))
    t.strictSame(
      await recognize(qcow2Image(fields)),
      { ok: true, image: { format: 'qcow2', virtualSize: 1048576 } },
      name,
    );
});

t.test('a raw disk is as large as its file', async (t) => {
  t.strictSame(await recognize(rawDisk(8192)), { ok: true, image: { format: 'raw', virtualSize: 8192 } });
});

t.test('an image that refers to another file, or is damaged, is refused with the reason', async (t) => {
  const data = Buffer.from('/etc/passwd');
  const refused: [string, Qcow2Fields, RegExp][] = [
    ['backing file', { backingOffset: 1024n, backingSize: 11 }, /backing file/],
    ['length of a backing file only', { backingSize: 11 }, /backing file/],
    ['external data file', { incompatible: 4n }, /external file/],
    ['name of an external data file', { extensions: [{ type: 0x44415441, data }] }, /external data file/],
    ['format of a backing file', { extensions: [{ type: 0xe2792aca, data }] }, /backing file/],
    ['encrypted with AES', { encryption: 1 }, /encrypted/],
    ['encrypted with LUKS', { extensions: [{ type: 0x0537be77, data: Buffer.alloc(16) }] }, /encrypted/],
    ['snapshots', { snapshots: 1 }, /snapshots/],
    ['unknown feature', { incompatible: 1n << 40n }, /not known here \(bits 0x10000000000\)/],
    ['corrupt', { incompatible: 2n }, /corrupt/],
    ['dirty', { incompatible: 1n }, /not closed cleanly/],
    ['version 1', { version: 1 }, /version 1/],
    ['tiny clusters', { clusterBits: 8 }, /cluster size/],
    ['vast clusters', { clusterBits: 4_294_967_295 }, /cluster size/],
    ['header in the middle of nowhere', { headerLength: 4_294_967_288 }, /length of its header/],
    ['odd length of the header', { headerLength: 109 }, /length of its header/],
    ['extension beyond the header', { extensions: [{ type: 1, data: Buffer.alloc(65536) }] }, /longer than the header/],
    ['unknown compression', { incompatible: 8n, compression: 7 }, /compressed with a method/],
    ['empty disk', { size: 0n }, /empty/],
    ['2^64 - 512 bytes', { size: 2n ** 64n - 512n }, /impossibly large/],
    ['half a sector', { size: 1000n }, /multiple of 512/],
    ['table too short for the size', { size: 2n ** 45n }, /table of clusters/],
    ['vast table', { l1Entries: 2 ** 31 }, /table of clusters/],
    ['table beyond the end', { l1Offset: 2n ** 62n }, /outside of the file/],
    ['table across the end', { l1Offset: 3n * 65536n, l1Entries: 8193 }, /outside of the file/],
    ['table on the header', { l1Offset: 0n }, /outside of the file/],
    ['no reference counts', { refcountClusters: 0 }, /outside of the file/],
  ];
  for (const [name, fields, problem] of refused) {
    const result = await recognize(qcow2Image(fields));
    t.notOk(result.ok, name);
    if (!result.ok) t.match(result.problem, problem, name);
  }
});

t.test('other formats are called by their names', async (t) => {
  const starting = (text: string, at = 0, size = 65536) => {
    const file = Buffer.alloc(size);
    file.write(text, at, 'latin1');
    return file;
  };
  const refused: [Buffer, RegExp][] = [
    [Buffer.alloc(0), /empty/],
    [starting('# Disk DescriptorFile\nRW 2048 FLAT "/etc/shadow" 0\n'), /VMDK descriptor/],
    [starting('COWD'), /VMDK image of an old version/],
    [starting('conectix'), /VHD image/],
    [Buffer.concat([rawDisk(8192), starting('conectix', 0, 512)]), /VHD image of fixed size/],
    [starting('QED\0'), /QED/],
    [starting('WithoutFreeSpace'), /Parallels/],
    [starting('LUKS\xba\xbe'), /LUKS/],
    [starting('BZh9'), /bzip2/],
    [starting('\x04"M\x18'), /LZ4/],
    [starting('PK\x03\x04'), /ZIP archive/],
    [starting('7z\xbc\xaf\x27\x1c'), /7z archive/],
    [starting('ustar', 257), /tar archive/],
    [starting('<!doctype html><title>404</title>'), /web page/],
    [starting('CD001', 0x8001), /ISO 9660 image without a boot sector/],
    [starting('hello'), /neither/],
    [Buffer.from('QFI\xfb', 'latin1'), /too short/],
    [rawDisk(8192 + 100), /multiple of 512/],
    [starting('QFI\xfb\0\0\0\x03', 0, 104), /cluster size/],
  ];
  for (const [file, problem] of refused) {
    const result = await recognize(file);
    t.notOk(result.ok, `${problem}`);
    if (!result.ok) t.match(result.problem, problem);
  }
});

t.test('each format is recognised by its content, also if it is compressed', async (t) => {
  const hybridIso = rawDisk(0x9000);
  hybridIso.write('CD001', 0x8001, 'latin1');
  const image = (format: string, virtualSize: number) => ({ ok: true, image: { format, virtualSize } });
  const MiB = 1024 ** 2;
  const known: [string, Buffer, unknown][] = [
    ['vmdk', vmdkImage(), image('vmdk', MiB)],
    ['vmdk, version 3, compressed', vmdkImage({ version: 3, compression: 1 }), image('vmdk', MiB)],
    [
      'vmdk whose header at the end counts',
      vmdkImage({ directoryAt: 2n ** 64n - 1n, footer: { version: 3, capacity: 4096n } }),
      image('vmdk', 2 * MiB),
    ],
    ['vdi', vdiImage(), image('vdi', MiB)],
    ['vdi of fixed size', vdiImage({ type: 2 }), image('vdi', MiB)],
    ['vdi of an odd size', vdiImage({ size: BigInt(MiB) - 1n }), image('vdi', MiB)],
    ['vhdx', vhdxImage(), image('vhdx', MiB)],
    ['an ISO 9660 image with a boot sector', hybridIso, image('raw', 0x9000)],
    ['gzip', Buffer.from([0x1f, 0x8b, 8, 0]), { ok: true, compression: 'gzip' }],
    ['xz', Buffer.from('fd377a585a000004', 'hex'), { ok: true, compression: 'xz' }],
    ['zstd', Buffer.from('28b52ffd00', 'hex'), { ok: true, compression: 'zstd' }],
  ];
  for (const [name, file, result] of known) t.strictSame(await recognize(file), result, name);
});

t.test('images of other hypervisors that refer to other files, or are damaged, are refused', async (t) => {
  for (const { name, image, why } of hostileForeignImages('/etc/passwd')) {
    const result = await recognize(image);
    t.notOk(result.ok, name);
    if (!result.ok) t.match(result.problem, why, name);
  }
});

t.test('changed images of other hypervisors are images or refused, and never refer to another file', async () => {
  const patch = fc.tuple(fc.nat(1024), fc.uint8Array({ minLength: 1, maxLength: 9 }));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(vmdkImage(), vdiImage(), vhdxImage()),
      fc.constantFrom(0, 192 * 1024, 2 * 1024 ** 2, 2 * 1024 ** 2 + 64 * 1024),
      fc.array(patch, { maxLength: 6 }),
      fc.option(fc.nat(5 * 1024 ** 2)),
      async (original, base, patches, length) => {
        const file = Buffer.from(original);
        for (const [at, bytes] of patches) if (base + at + bytes.length <= file.length) file.set(bytes, base + at);
        const cut = file.subarray(0, length ?? file.length);
        const result = await recognize(cut);
        if (!result.ok || 'compression' in result) return true;
        if (result.image.format === 'vmdk') return !cut.includes('parentFileNameHint') && cut.readBigUInt64LE(12) > 0n;
        if (result.image.format === 'vdi') return cut.readBigUInt64LE(0x1b8) === 0n && cut.readUInt32LE(0x4c) < 3;
        return true;
      },
    ),
    { numRuns: 1000 },
  );
});

t.test('no bytes make the reader fail, and what it accepts refers to nothing', async () => {
  const patch = fc.tuple(fc.integer({ min: 0, max: 220 }), fc.uint8Array({ minLength: 1, maxLength: 9 }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(patch, { maxLength: 6 }),
      fc.integer({ min: 0, max: 4 * 65536 }),
      async (patches, length) => {
        const file = Buffer.from(qcow2Image());
        for (const [at, bytes] of patches) file.set(bytes, at);
        const cut = file.subarray(0, length);
        const result = await recognize(cut);
        if (!result.ok) return result.problem.length > 0;
        if ('compression' in result) return cut.readUInt32BE(0) !== 0x514649fb;
        if (result.image.format !== 'qcow2') return cut.readUInt32BE(0) !== 0x514649fb;
        const version = cut.readUInt32BE(4);
        const external = version === 3 && (cut.readBigUInt64BE(72) & 4n) !== 0n;
        return cut.readBigUInt64BE(8) === 0n && !external && cut.readUInt32BE(60) === 0 && cut.readUInt32BE(32) === 0;
      },
    ),
    { numRuns: 2000 },
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2048 }), async (bytes) => {
      await recognize(Buffer.from(bytes));
    }),
  );
});

t.test('only addresses of the public internet are public', async (t) => {
  const isPublic = ['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111', '2a00:1450:4001:82a::200e', '64:ff9b::808:808'];
  const isNot = [
    ...['127.0.0.1', '10.0.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1', '0.0.0.0'],
    ...['224.0.0.1', '255.255.255.255', '198.18.0.1', '::', '::1', 'fe80::a9fe:a9fe', 'fd00:ec2::254', 'fc00::1'],
    ...['ff02::1', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::1'],
    ...['2002:7f00:1::', '2001::1', '2001:db8::1', 'fec0::1', 'example.net', '', '1.2.3', 'fe80::1%eth0'],
  ];
  for (const address of isPublic) t.ok(isPublicAddress(address), address);
  for (const address of isNot) t.notOk(isPublicAddress(address), address);
});
