/** Seed disks contain texts of users. A text must not change another document, and the host interprets none of them. */
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { parse } from 'yaml';
import { writeSeedDisk } from '../../backend/host/storage/seed-disk.ts';
import { run } from '../../backend/host/system/command.ts';
import { noCloudDocuments, noCloudFiles } from '../../backend/model/guest/no-cloud.ts';
import { testSeed } from '../support/seeds.ts';
import { temporaryDirectory } from '../support/stores.ts';

const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '"\n"instance-id": "other"',
    '--==ucloud-vendor-data==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n',
    '\u2028: {}',
    "'; touch /tmp/x; '",
    '%YAML 1.2\n---\n',
  ),
);

t.test('no name, key, resolver or user data changes another value or document', async (t) => {
  fc.assert(
    fc.property(hostile, hostile, hostile, hostile, (name, key, dns, userData) => {
      const interfaces = [{ mac: '42:00:5e:10:00:01', dnsServers: [dns], addresses: [] }];
      for (const networkConfig of ['v1', 'v2'] as const) {
        const seed = noCloudDocuments({ id: 'vm-1', name, sshKeys: [key], userData, interfaces, networkConfig });
        t.strictSame(parse(seed['meta-data']), { 'instance-id': 'vm-1', 'local-hostname': name, 'public-keys': [key] });
        t.strictSame(JSON.parse(seed['network-config']), parse(seed['network-config']));
        t.equal(seed['vendor-data'], testSeed()['vendor-data']);
        t.equal(seed['user-data'], userData);
      }
    }),
    { numRuns: 50 },
  );
});

const absent = ['mcopy', 'mkfs.vfat'].find(
  (name) => spawnSync('sh', ['-c', `PATH=$PATH:/sbin:/usr/sbin command -v ${name}`]).status !== 0,
);
const skip = absent === undefined ? false : `${absent} is not installed`;

const noYaml = spawnSync('python3', ['-c', 'import yaml']).status === 0 ? false : 'python3-yaml is not installed';

t.test('the YAML parser of cloud-init reads every text of a user', { skip: noYaml }, async (t) => {
  const name = Array.from({ length: 0x2100 }, (_, code) => String.fromCharCode(code + 1))
    .join('')
    .concat('\ufeff\ufffe\uffff\u{1f511}');
  const { stdout } = spawnSync(
    'python3',
    ['-c', 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin.buffer)))'],
    {
      input: testSeed({ name, sshKeys: [name] })['meta-data'],
      encoding: 'utf8',
    },
  );
  t.match(JSON.parse(stdout), { 'local-hostname': name, 'public-keys': [name] });
});

t.test('the largest documents fit, byte by byte, and only root reads the disk', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'seed.img');
  const documents = testSeed({
    sshKeys: Array.from({ length: 32 }, (_, i) => `ssh-rsa ${'A'.repeat(16_370)} ${i}`),
    userData: '\u{1f511}'.repeat(32_768),
    interfaces: Array.from({ length: 8 }, (_, i) => ({
      mac: `42:00:00:00:00:0${i}`,
      dnsServers: Array.from({ length: 8 }, (_, j) => `2001:db8::${i}:${j}`),
      addresses: [],
    })),
  });
  await writeSeedDisk(run, path, documents);
  // The second start of the VM, with less to say: nothing of the first remains.
  t.equal(statSync(path).mode & 0o777, 0o600);
  for (const name of noCloudFiles) t.equal(await run('mtype', ['-i', path, `::${name}`]), documents[name], name);
  await writeSeedDisk(run, path, testSeed({ userData: '#!/bin/sh\n' }));
  t.equal(await run('mtype', ['-i', path, '::user-data']), '#!/bin/sh\n', 'a new seed disk replaces the old one');
  t.strictSame(readdirSync(directory), ['seed.img'], 'no other file remains');
});

t.test('a crash between any two steps leaves nothing that hinders the next start', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'seed.img');
  const program = fileURLToPath(new URL('../support/killed-seed.ts', import.meta.url));
  for (const last of ['mkfs.vfat', 'mcopy']) {
    const { signal } = spawnSync(process.execPath, [program, path, last]);
    t.equal(signal, 'SIGKILL');
    t.ok(readdirSync(directory).length > 0, 'the crash leaves something');
    t.notOk(readdirSync(directory).includes('seed.img'), 'but no half-written disk');
  }
  await writeSeedDisk(run, path, testSeed());
  t.strictSame(readdirSync(directory), ['seed.img']);
});
