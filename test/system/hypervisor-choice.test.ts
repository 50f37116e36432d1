/** The hypervisor of a host on which QEMU cannot be used. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { layout } from '../../backend/cli/layout.ts';
import { newId } from '../../backend/model/ids.ts';
import { ucloudCommand } from '../support/cli.ts';
import { within } from '../support/eventually.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

/** Runs a command in a mount namespace in which the program `$0` cannot be executed. */
const hiding = ['unshare', '--mount', 'sh', '-c', 'mount --bind /dev/null "$(command -v "$0")" && exec "$@"'];

/** Starts the cloud of a directory. Stops it when it is up, and returns its output and its exit code. */
async function up(t: Test, directory: string, hypervisor: string) {
  const data = join(directory, 'data');
  const command = [ucloudCommand, 'up', '--data', data, '--listen', '[::1]:0', '--hypervisor', hypervisor];
  // If QEMU works here, this process can create such a namespace.
  const [program = '', ...args] = (await noQemu()) ? command : [...hiding, 'qemu-system-x86_64', ...command];
  const env = { ...process.env, UCLOUD_CREDENTIALS: join(directory, 'credentials.json') };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    if (out.includes('ucloud is up')) child.kill('SIGTERM');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const [code] = (await within('the cloud ends', once(child, 'close'))) as [number | null];
  return { code, out, err };
}

t.test('a host with VMs of QEMU refuses to run simulated VMs in their place', async (t) => {
  const directory = temporaryDirectory(t);
  const vms = join(layout(join(directory, 'data')).host, 'vms');

  await t.test('without VMs, auto simulates them, and says why', async (t) => {
    const { out, err } = await up(t, directory, 'auto');
    t.match(out, /ucloud is up: \S+ \(simulated, /, err);
    t.match(err + out, /QEMU cannot be used: /);
  });

  await t.test('with one, auto refuses, names what is missing, and leaves the VM alone', async (t) => {
    const vm = join(vms, newId('vm'));
    mkdirSync(vm, { recursive: true });
    writeFileSync(join(vm, 'state.json'), '{"uid":1}');
    for (let start = 0; start < 2; start++) {
      const { code, out, err } = await up(t, directory, 'auto');
      t.match(
        { code, err },
        { code: 1, err: /This host has VMs of QEMU, which simulated VMs must not replace\. .*\n {2}\S/ },
      );
      t.notMatch(out, /is up/);
      t.notMatch(err, /\n\s+at /, 'no stack');
    }
    t.equal(readdirSync(vms).length, 1);
    t.equal(readFileSync(join(vm, 'state.json'), 'utf8'), '{"uid":1}');
    const asked = await up(t, directory, 'qemu');
    t.match(asked, { code: 1, err: /--hypervisor qemu does not work on this machine/ });
  });

  await t.test('VMs that cannot be listed are not taken for none', async (t) => {
    rmSync(vms, { recursive: true });
    symlinkSync('vms', vms);
    const { code, out, err } = await up(t, directory, 'auto');
    t.match({ code, err }, { code: 1, err: /ELOOP/ });
    t.notMatch(out, /is up/);
  });

  await t.test('after the last VM, auto simulates again', async (t) => {
    rmSync(vms);
    mkdirSync(vms);
    t.match((await up(t, directory, 'auto')).out, /ucloud is up: \S+ \(simulated, /);
  });
});
