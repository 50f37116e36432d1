/** Attacks by images in the formats of other hypervisors, and by compressed files. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, crc32, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { convert } from '../../backend/scanner/convert.ts';
import { ImageRejected, SourceUnavailable } from '../../backend/scanner/failures.ts';
import { defaultLimits } from '../../backend/scanner/limits.ts';
import { qcow2Image, rawDisk } from '../support/disk-images.ts';
import { hostileForeignImages, vmdkDescriptor, vmdkImage } from '../support/foreign-images.ts';
import { faultOf, importer, needs, needsQemuImg } from '../support/importer.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 1024 ** 2;
const needsAll =
  [needsQemuImg, needs('gzip', 'gzip'), needs('xz', 'xz-utils'), needs('zstd', 'zstd')].find(({ skip }) => skip) ?? {};
const xz = (bytes: Buffer, ...options: string[]): Buffer =>
  execFileSync('xz', ['-c', '-T1', '-0', ...options], { input: bytes, maxBuffer: 64 * MiB });
const compressors = { gzip: (bytes: Buffer) => gzipSync(bytes), xz, zstd: (bytes: Buffer) => zstdCompressSync(bytes) };

/** A raw disk, half of which is random. */
function disk(size = 2 * MiB): Buffer {
  const bytes = rawDisk(size);
  for (let at = size / 2; at < bytes.length; at += 4) bytes.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
  return bytes;
}

/** The disk in each format of qemu-img. */
function formatsOf(t: Test, content: Buffer): Map<string, Buffer> {
  const directory = temporaryDirectory(t);
  const raw = join(directory, 'disk.raw');
  writeFileSync(raw, content);
  const kinds: Record<string, readonly string[]> = {
    vmdk: ['-O', 'vmdk'],
    'vmdk, streamOptimized': ['-O', 'vmdk', '-o', 'subformat=streamOptimized'],
    vdi: ['-O', 'vdi'],
    'vdi of fixed size': ['-O', 'vdi', '-o', 'static=on'],
    vhdx: ['-O', 'vhdx'],
    'vhdx of fixed size': ['-O', 'vhdx', '-o', 'subformat=fixed'],
  };
  return new Map(
    Object.entries(kinds).map(([name, options]) => {
      const path = join(directory, 'converted');
      execFileSync('qemu-img', ['convert', '-f', 'raw', ...options, raw, path]);
      return [name, readFileSync(path)];
    }),
  );
}

/** Imports bytes, and returns the content of the disk that VMs get. */
async function contentOf(t: Test, scanner: ReturnType<typeof importer>, bytes: Buffer): Promise<Buffer> {
  const { sha256 } = await scanner.importBytes(bytes);
  t.equal(sha256, createHash('sha256').update(bytes).digest('hex'), 'the SHA-256 is that of the source as it arrived');
  const path = join(scanner.imageStore, nameOf(scanner));
  const raw = join(scanner.imageStore, '.raw');
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  rmSync(path);
  const content = readFileSync(raw);
  rmSync(raw);
  return content;
}

const madeBy = ({ imageStore }: { readonly imageStore: string }): string[] =>
  readdirSync(imageStore).filter((name) => name.endsWith('.qcow2'));
const nameOf = (scanner: { readonly imageStore: string }): string => madeBy(scanner)[0] ?? '';

t.test('images of each format, also compressed, become the disk that they describe', needsAll, async (t) => {
  const scanner = importer(t);
  const content = disk();
  const formats = formatsOf(t, content);
  for (const [name, image] of formats) t.ok((await contentOf(t, scanner, image)).equals(content), name);
  const sources: Record<string, Buffer> = {
    'raw.gz': gzipSync(content),
    'raw.xz': xz(content),
    'raw.zst': zstdCompressSync(content),
    'vmdk.gz': gzipSync(formats.get('vmdk') ?? content),
    'vdi.xz': xz(formats.get('vdi') ?? content, '-9e'),
    'the largest dictionary of zstd without --long': zstdCompressSync(content, {
      params: { [constants.ZSTD_c_compressionLevel]: 22, [constants.ZSTD_c_windowLog]: 27 },
    }),
    'two members': Buffer.concat([gzipSync(content.subarray(0, MiB)), gzipSync(content.subarray(MiB))]),
    'two streams': Buffer.concat([xz(content.subarray(0, MiB)), xz(content.subarray(MiB))]),
    'two frames': Buffer.concat([zstdCompressSync(content.subarray(0, MiB)), zstdCompressSync(content.subarray(MiB))]),
  };
  for (const [name, source] of Object.entries(sources))
    t.ok((await contentOf(t, scanner, source)).equals(content), name);
  t.strictSame(readdirSync(scanner.staging), [], 'nothing is left over');
});

/** A file that no import may read. Its time of access is older than its content, so that a read changes the time. */
function canary(t: Test): { readonly path: string; readonly isRead: () => boolean } {
  // All users may read it. The directories of tests are closed.
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-canary-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  chmodSync(directory, 0o755);
  const path = join(directory, 'canary');
  writeFileSync(path, rawDisk(MiB, 'the canary'), { mode: 0o644 });
  utimesSync(path, new Date(0), new Date());
  return { path, isRead: () => statSync(path).atimeMs !== 0 };
}

/** Checks that a read of the canary would have shown. */
function checkCanary(t: Test, { path, isRead }: ReturnType<typeof canary>): void {
  t.notOk(isRead(), 'the canary is not read');
  readFileSync(path);
  t.ok(isRead(), 'a read would show');
}

t.test('an image that refers to another file is refused, and the file is not read', needsAll, async (t) => {
  const scanner = importer(t);
  const other = canary(t);
  for (const { name, image, why } of hostileForeignImages(other.path)) {
    const fault = await faultOf(scanner.importBytes(image));
    t.ok(fault instanceof ImageRejected, name);
    t.match(fault, { message: why }, name);
    if (name.includes('parent')) t.match(await faultOf(scanner.importBytes(gzipSync(image))), { message: why }, name);
  }
  checkCanary(t, other);
  t.strictSame([...madeBy(scanner), ...readdirSync(scanner.staging)], [], 'nothing is left over');
});

t.test('qemu-img opens no other file, even for an image that was not examined', needsAll, async (t) => {
  const directory = temporaryDirectory(t);
  const other = canary(t);
  const parent = `parentFileNameHint="${other.path}"\n`;
  const images = {
    vmdk: vmdkImage({ descriptor: vmdkDescriptor('RW 2048 SPARSE "disk.vmdk"', '12345678') + parent }),
    qcow2: (() => {
      const image = qcow2Image({ backingOffset: 1024n, backingSize: other.path.length });
      image.write(other.path, 1024, 'latin1');
      return image;
    })(),
  };
  for (const [format, image] of Object.entries(images)) {
    const [source, target] = [join(directory, 'source'), join(directory, 'target')];
    writeFileSync(source, image);
    const sizes = { virtualSize: MiB, sourceSize: image.length, maxTargetBytes: 64 * MiB };
    const files = { source, target, format: format as 'vmdk' | 'qcow2', ...sizes };
    await convert(files, defaultLimits, new AbortController().signal);
    t.notOk(readFileSync(target).includes('the canary'), format);
  }
  checkCanary(t, other);
});

/** A file of xz whose header asks for a dictionary of 4 GiB. */
function vastXzDictionary(): Buffer {
  const file = xz(disk());
  const [header, length] = [12, ((file[12] ?? 0) + 1) * 4];
  const filter = file.indexOf(Buffer.from([0x21, 1]), header);
  file[filter + 2] = 40;
  file.writeUInt32LE(crc32(file.subarray(header, header + length - 4)), header + length - 4);
  return file;
}
/** A frame of zstd with a window of 2 GiB (--long=31) and a block of one byte. */
const vastZstdWindow = Buffer.from('28b52ffd00a809000041', 'hex');

t.test('a compressed file is unpacked once, within limits, or its owner gets the reason', needsAll, async (t) => {
  const limits = { maxExpansion: 4, expansionBaseBytes: MiB, maxVirtualBytes: 64 * MiB };
  const scanner = importer(t, limits);
  const bomb = Buffer.alloc(16 * MiB, 'a');
  const refused: [string, Buffer, RegExp][] = [];
  for (const [name, compress] of Object.entries(compressors)) {
    const packed = compress(disk());
    refused.push(
      [`a bomb of ${name}`, compress(bomb), /takes more than 4 times its size/],
      [
        `many bombs of ${name}`,
        Buffer.concat(new Array<Buffer>(20).fill(compress(bomb.subarray(0, MiB)))),
        /more than 4/,
      ],
      [`${name}, cut off`, packed.subarray(0, packed.length / 2), new RegExp(`cannot be unpacked with ${name}`)],
      [`${name}, header only`, packed.subarray(0, 8), new RegExp(`cannot be unpacked with ${name}`)],
      [
        `${name} with other bytes behind`,
        Buffer.concat([packed, Buffer.from('garbage')]),
        new RegExp(`cannot be unpacked with ${name}`),
      ],
      [`${name} of nothing`, compress(Buffer.alloc(0)), /Unpacked with .*: The file is empty/],
      [`${name} of a text`, compress(Buffer.from('hello')), /neither an image/],
      [`${name} of gzip`, compress(gzipSync(disk())), new RegExp(`compressed twice, with ${name} and gzip`)],
      [`${name} of xz`, compress(xz(disk())), new RegExp(`compressed twice, with ${name} and xz`)],
      [`${name} of an image with a backing file`, compress(qcow2Image({ backingSize: 11 })), /backing file/],
    );
  }
  refused.push(
    ['xz with a dictionary of 4 GiB', vastXzDictionary(), /dictionary of more than 128MiB/],
    ['zstd with a window of 2 GiB', vastZstdWindow, /dictionary of more than 128MiB/],
  );
  const before = process.memoryUsage().rss;
  for (const [name, bytes, why] of refused) {
    const fault = await faultOf(scanner.importBytes(bytes));
    t.ok(fault instanceof ImageRejected, name);
    t.match(fault, { message: why }, name);
  }
  t.ok(process.memoryUsage().rss - before < 200 * MiB, 'the scanner unpacks nothing in its own memory');
  t.strictSame([...madeBy(scanner), ...readdirSync(scanner.staging)], [], 'nothing is left over');
  const large = importer(t, { maxVirtualBytes: MiB });
  t.match(await faultOf(large.importBytes(gzipSync(Buffer.alloc(24 * MiB)))), {
    message: /larger than a disk of 1MiB/,
  });
  t.match(await scanner.importBytes(gzipSync(disk())), { virtualSize: 2 * MiB }, 'the scanner still works');
});

t.test('any bytes of any format are an image or the fault of their owner', needsAll, async (t) => {
  const scanner = importer(t);
  const formats = formatsOf(t, disk());
  const originals = new Map(formats);
  for (const [name, compress] of Object.entries(compressors)) originals.set(name, compress(disk()));
  const place = fc.oneof(
    fc.nat(600),
    fc.nat(8_192),
    fc.constantFrom(64, 128, 192, 256, 2048, 3072).map((n) => n * 1024),
  );
  const change = fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 9 }));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...originals.keys()),
      fc.array(change, { minLength: 1, maxLength: 3 }),
      fc.option(fc.nat(2 * MiB), { freq: 4 }),
      async (name, changes, length) => {
        const bytes = Buffer.from(originals.get(name) ?? []);
        for (const [at, patch] of changes)
          bytes.set(patch.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
        const fault = await faultOf(scanner.importBytes(bytes.subarray(0, length ?? bytes.length)));
        if (fault !== undefined && !(fault instanceof ImageRejected)) throw fault;
        return fault === undefined || (fault.message.length > 10 && fault.message.length < 5_000);
      },
    ),
    { numRuns: 24, endOnFailure: true },
  );
  t.strictSame(readdirSync(scanner.staging), [], 'nothing is left over');
});

/** A VMDK of 2 GiB whose tables are all one, and whose grains are all one. */
function sharedGrains(): Buffer {
  const image = vmdkImage({ capacity: 4_194_304n });
  const file = Buffer.concat([image, Buffer.alloc(64 * 1024, 'a')]);
  for (let table = 0; table < 64; table++) file.writeUInt32LE(27, 26 * 512 + table * 4);
  for (let grain = 0; grain < 512; grain++) file.writeUInt32LE(256, 27 * 512 + grain * 4);
  return file;
}

t.test('tables that use one part of the file many times, and vast empty disks, end at a limit', needsAll, async (t) => {
  const shared = await faultOf(importer(t, { maxExpansion: 4, expansionBaseBytes: MiB }).importBytes(sharedGrains()));
  t.match(shared, { message: /takes more than 4 times its size/ });
  const path = join(temporaryDirectory(t), 'vast.vhdx');
  execFileSync('qemu-img', ['create', '-q', '-f', 'vhdx', path, '1T']);
  const vast = readFileSync(path);
  const slow = importer(t, { baseCpuSeconds: 1, cpuSecondsPerMiB: 0 });
  t.match(await faultOf(slow.importBytes(vast)), { message: /more than 1 s of processor time/ });
  const small = importer(t, { maxVirtualBytes: MiB });
  t.match(await faultOf(small.importBytes(vast)), { message: /disk of 1TiB; the limit is 1MiB/ });
});

/** The CRC-32C of the header of a VHDX. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}

t.test('a VHDX with a vast or misplaced log is the disk that it describes, or refused', needsAll, async (t) => {
  const scanner = importer(t);
  const original = formatsOf(t, disk()).get('vhdx') ?? Buffer.alloc(0);
  for (const [length, at] of [
    [MiB, MiB],
    [2 ** 32 - MiB, MiB],
    [MiB, 2 ** 50],
  ] as const) {
    const image = Buffer.from(original);
    for (const header of [64 * 1024, 128 * 1024]) {
      image.fill(1, header + 48, header + 64);
      image.writeUInt32LE(length, header + 68);
      image.writeBigUInt64LE(BigInt(at), header + 72);
      image.writeUInt32LE(0, header + 4);
      image.writeUInt32LE(crc32c(image.subarray(header, header + 4096)), header + 4);
    }
    image.write('loge', MiB, 'latin1');
    const fault = await faultOf(scanner.importBytes(image));
    const name = `a log of ${length} bytes at ${at}`;
    if (length > MiB) t.match(fault, { message: /cannot be read as vhdx.*overlaps/ }, name);
    else t.equal(fault, undefined, `${name} has no entries to replay`);
  }
  t.strictSame(readdirSync(scanner.staging), [], 'nothing is left over');
});

const needsRoot = process.getuid?.() === 0 ? needsAll : { skip: 'only root can give a program another user' };

t.test('the program that unpacks has no privileges, no network, and opens no file', needsRoot, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-unpacker-'));
  chmodSync(directory, 0o755);
  const path = process.env.PATH;
  process.env.PATH = `${directory}:${path}`;
  t.teardown(() => {
    process.env.PATH = path;
    rmSync(directory, { recursive: true, force: true });
  });
  const script = `#!/bin/sh
exec >&2
echo "uid $(id -u) groups $(id -G) arguments $*"
grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status
echo "links $(grep -c : /proc/net/dev)"
grep -E 'Max (cpu time|address space|file size|open files)' /proc/self/limits
exit 1
`;
  const xzScript = join(directory, 'xz');
  const packed = xz(disk());
  writeFileSync(xzScript, script, { mode: 0o755 });
  const fault = await faultOf(importer(t).importBytes(packed));
  t.ok(fault instanceof ImageRejected);
  const { message } = fault as ImageRejected;
  t.match(message, /uid 64010 groups 64010 arguments -dc /);
  t.notMatch(message, temporaryDirectory(t).slice(0, 8), 'it gets no path');
  t.match(message, /CapEff: 0+ CapBnd: 0+ NoNewPrivs: 1/);
  t.match(message, /links 1/, 'only loopback');
  t.match(message, /Max cpu time \d+ \d+ seconds/);
  t.match(message, /Max address space 1073741824 1073741824/);
  t.match(message, /Max file size \d+ \d+ bytes/);
  t.match(message, /Max open files 64 64/);
  writeFileSync(xzScript, '#!/bin/sh\nexit 127\n', { mode: 0o755 });
  const missing = await faultOf(importer(t).importBytes(packed));
  t.ok(missing instanceof SourceUnavailable, 'no fault of the image');
  t.match(missing, { message: /lacks the program xz \(package xz-utils\)/ });
});
