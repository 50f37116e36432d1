/** How provider packages are named, listed and archived. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import {
  isProviderHost,
  isProviderWord,
  isVersion,
  packageFileName,
  parseChecksums,
  parsePackageName,
} from '../../backend/model/terraform/provider-packages.ts';
import { nodeLicence } from '../../provider/build.ts';
import { withNote } from '../../provider/packaging/elf.ts';
import { zip } from '../../provider/packaging/zip.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('an executable passes on the licence of the very Node that is in it', async (t) => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
  t.match(await nodeLicence(`v${packages['node_modules/node'].version}`), /Copyright Node\.js contributors/);
  await t.rejects(nodeLicence('v24.0.1'), /the licence of Node v24\.0\.1 is missing.*nodejs\/node\/v24\.0\.1\/LICENSE/);
});

t.test('names of packages', async (t) => {
  for (const [name, expected] of [
    [
      'terraform-provider-ucloud_0.1.0_linux_amd64.zip',
      { type: 'ucloud', version: '0.1.0', os: 'linux', arch: 'amd64' },
    ],
    [
      'terraform-provider-google-beta_1.2.3-rc.1+build.5_darwin_arm64.zip',
      { type: 'google-beta', version: '1.2.3-rc.1+build.5', os: 'darwin', arch: 'arm64' },
    ],
    ['terraform-provider-ucloud_0.1.0_linux_amd64.tar', undefined],
    ['terraform-provider-ucloud_0.1_linux_amd64.zip', undefined],
    ['terraform-provider-ucloud_01.1.0_linux_amd64.zip', undefined],
    ['terraform-provider-ucloud_v0.1.0_linux_amd64.zip', undefined],
    ['terraform-provider-UCLOUD_0.1.0_linux_amd64.zip', undefined],
    ['terraform-provider-../ucloud_0.1.0_linux_amd64.zip', undefined],
    ['terraform-provider-ucloud_0.1.0_linux_../amd64.zip', undefined],
    ['', undefined],
  ] as const) {
    t.strictSame(parsePackageName(name), expected, name);
  }
  const word = fc.stringMatching(/^[a-z0-9]{1,10}(-[a-z0-9]{1,10}){0,2}$/);
  const number = fc.nat({ max: 999_999_999 });
  const version = fc
    .tuple(number, number, number, fc.stringMatching(/^(-[a-z0-9.]*[a-z0-9])?$/))
    .map(([major, minor, patch, rest]) => `${major}.${minor}.${patch}${rest}`)
    .filter(isVersion);
  const plain = fc.stringMatching(/^[a-z0-9]{1,20}$/);
  fc.assert(
    fc.property(fc.record({ type: word, version, os: plain, arch: plain }, { noNullPrototype: true }), (name) =>
      isDeepStrictEqual(parsePackageName(packageFileName(name)), name),
    ),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const name = `terraform-provider-${text}_0.1.0_linux_amd64.zip`;
      const parsed = parsePackageName(name);
      return parsed === undefined || (/^[\w.+-]+$/.test(name) && packageFileName(parsed) === name);
    }),
    { examples: [['a/../b'], ['a%2f'], ['a\n'], ['a_0.1.0_x'], ['\u0000']] },
  );
});

t.test('words, hosts and versions', async (t) => {
  for (const [check, text, valid] of [
    [isProviderWord, 'ucloud', true],
    [isProviderWord, 'google-beta', true],
    [isProviderWord, 'Ucloud', false],
    [isProviderWord, '..', false],
    [isProviderWord, '', false],
    [isProviderWord, 'a--b', false],
    [isProviderWord, 'a'.repeat(65), false],
    [isProviderHost, 'registry.terraform.io', true],
    [isProviderHost, 'localhost:7780', true],
    [isProviderHost, 'xn--bcher-kva.example', true],
    [isProviderHost, '..', false],
    [isProviderHost, 'a..b', false],
    [isProviderHost, 'a:b', false],
    [isProviderHost, '-a', false],
    [isProviderHost, 'a/b', false],
    [isVersion, '1.0.0', true],
    [isVersion, '1.0.0-beta-1', true],
    [isVersion, '1.0', false],
    [isVersion, '1.0.0-', false],
    [isVersion, '../1.0.0', false],
    [isVersion, `1.0.0-${'a'.repeat(100)}`, false],
  ] as const) {
    t.equal(check(text), valid, `${check.name}: ${text}`);
  }
});

t.test('lists of checksums', async (t) => {
  const sum = 'a'.repeat(64);
  t.strictSame(
    [...(parseChecksums(`${sum}  one.zip\n${sum} *two.zip\n`) ?? [])],
    [
      ['one.zip', sum],
      ['two.zip', sum],
    ],
  );
  t.strictSame([...(parseChecksums('') ?? ['?'])], []);
  for (const text of [`${sum}`, `${sum}  ../one.zip`, `${sum.slice(1)}  one.zip`, 'x', `${sum}  one.zip\nhello`]) {
    t.equal(parseChecksums(text), undefined, text);
  }
});

t.test('archives', async (t) => {
  const members = [
    { name: 'first', content: Buffer.from('#!/bin/sh\n'), executable: true },
    { name: 'second.txt', content: Buffer.alloc(100_000, 'abc') },
    { name: 'empty', content: Buffer.alloc(0) },
  ];
  const archive = zip(members);
  t.ok(archive.equals(zip(members)), 'the same bytes each time');
  t.ok(archive.length < 1000, 'compressed');
  const [unzip] = ['busybox', 'unzip'].filter((name) => spawnSync(name, ['--help']).status === 0);
  if (unzip === undefined && process.env.CI === 'true')
    throw new Error('there is no unzip, and CI=true allows no skips');
  await t.test('are unpacked by others', { skip: unzip === undefined && 'SKIPPED: no busybox' }, async (t) => {
    const directory = temporaryDirectory(t);
    writeFileSync(join(directory, 'archive.zip'), archive);
    const applet = unzip === 'busybox' ? ['unzip'] : [];
    execFileSync(unzip ?? '', [...applet, '-q', 'archive.zip'], { cwd: directory });
    for (const { name, content } of members) t.ok(readFileSync(join(directory, name)).equals(content), name);
  });
});

t.test('executables that carry data', async (t) => {
  const script = Buffer.from('#!/bin/sh\n');
  t.throws(() => withNote(script, 'DATA', script), { message: /not a 64-bit little-endian ELF executable/ });
  const truncated = Buffer.alloc(64);
  truncated.write('\x7fELF\x02\x01', 'latin1');
  t.throws(() => withNote(truncated, 'DATA', script), { message: /no loaded segments/ });

  const file = '/bin/cat';
  const here = process.platform === 'linux' && existsSync(file);
  await t.test('run as before', { skip: !here && 'SKIPPED: not Linux' }, async (t) => {
    const program = readFileSync(file);
    const data = randomBytes(100_001);
    const carrying = withNote(program, 'DATA', data);
    t.ok(carrying.equals(withNote(program, 'DATA', data)), 'the same bytes each time');
    t.ok(carrying.includes(data));
    // The dynamic linker and the kernel need the old layout and zeroed memory.
    const copy = join(temporaryDirectory(t), 'cat');
    writeFileSync(copy, carrying, { mode: 0o755 });
    t.ok(execFileSync(copy, ['-'], { input: data }).equals(data));
    const twice = withNote(carrying, 'MORE', data);
    writeFileSync(copy, twice, { mode: 0o755 });
    t.ok(execFileSync(copy, ['-'], { input: data }).equals(data), 'also with a second note beside the first');
    t.ok(twice.includes(data, twice.indexOf('MORE')));
  });
});
