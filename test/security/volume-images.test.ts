/** Hostile images and hosts against the first content of volumes. */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { findProcesses } from '../../backend/host/system/processes.ts';
import { until } from '../support/eventually.ts';
import { noQemu } from '../support/qemu.ts';
import { imageSize, testContents } from '../support/volume-content.ts';

const signal = new AbortController().signal;
const qemuImg = (...args: string[]) => execFileSync('qemu-img', args);
const MiB = 1024 ** 2;

t.test('the header of an image names no file whose content a volume gets', { skip: await noQemu() }, async (t) => {
  const { path, of } = await testContents(t);
  const secret = join(dirname(path), 'secret');
  writeFileSync(secret, 'secret'.repeat(1_000));
  truncateSync(secret, imageSize);
  qemuImg('create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secret, path, `${imageSize}`);
  const target = join(dirname(path), 'target');
  writeFileSync(target, '');
  truncateSync(target, imageSize);
  await (await of(1)).write({ kind: 'file', path: target }, signal);
  t.equal(statSync(target).size, imageSize);
  t.notOk(readFileSync(target).includes('secret'));

  // A host with another image store could name a file that is no image.
  writeFileSync(path, 'no image');
  await t.rejects(of(1), /is not a qcow2 image/);
});

t.test('each image is read by a user of its own without rights', { skip: await noQemu() }, async (t) => {
  const first = 772_000;
  const { path, of } = await testContents(t, { speed: 64 * 1024, firstUid: first });
  const abort = new AbortController();
  const targets = [1, 2].map((number) => join(dirname(path), `target-${number}`));
  const copies = targets.map(async (target) => {
    writeFileSync(target, '');
    truncateSync(target, imageSize);
    await (await of(1)).write({ kind: 'file', path: target }, abort.signal);
  });
  const running = () => findProcesses(({ uid }) => uid >= first && uid < first + 16);
  await until('both images are read', async () => (await running()).length === 2);
  const processes = await running();
  t.equal(new Set(processes.map(({ uid }) => uid)).size, 2);
  for (const { pid } of processes) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    t.match(status, /CapEff:\t0{16}\nCapBnd:\t0{16}/);
    t.match(status, /NoNewPrivs:\t1\nSeccomp:\t2/);
    t.match(
      readFileSync(`/proc/${pid}/limits`, 'utf8'),
      new RegExp(`Max file size +${Math.ceil(imageSize * 1.01) + 64 * MiB}`),
    );
  }
  abort.abort();
  for (const copy of copies) await t.rejects(copy);
  await until('the processes end with the copies', async () => (await running()).length === 0);
});
