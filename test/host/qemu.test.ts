// Boots guests: each takes a core without hardware virtualisation.

import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ObservedVm } from '../../backend/host/hypervisor/hypervisor.ts';
import { qemuArguments, unprivileged, uuidOf } from '../../backend/host/hypervisor/qemu/command-line.ts';
import { ConsoleLog, maxConsoleBytes } from '../../backend/host/hypervisor/qemu/console-log.ts';
import { bootDisk, bootProbe } from '../../backend/host/hypervisor/qemu/kvm-probe.ts';
import type { NetworkSpec, VmSpec } from '../../backend/host/hypervisor/specs.ts';
import { markerFile } from '../../backend/host/storage/pools/directory-pool.ts';
import { uefiCode } from '../../backend/host/storage/uefi.ts';
import { CommandError, run } from '../../backend/host/system/command.ts';
import { instanceOf, processGroupId } from '../../backend/host/system/instance.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { formatIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import { storedPrefix } from '../../backend/model/network/prefixes.ts';
import { builtInPool, type PoolSpec } from '../../backend/model/storage/pool.ts';
import { rootSlot, type VolumeSpec } from '../../backend/model/vm/volumes.ts';
import { demoImage } from '../support/demo-image.ts';
import { type DrivenHost, drivenHost } from '../support/driven-host.ts';
import { efiDisk } from '../support/efi-disk.ts';
import { until } from '../support/eventually.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { testSeed } from '../support/seeds.ts';

const skip = noNamespaces('nft', 'radvd', 'qemu-system-x86_64', 'qemu-img', 'setpriv');
const MiB = 1024 ** 2;

const network: NetworkSpec = {
  id: idFrom('network', 'net-0000000000000001'),
  vni: 1,
  cidr: 'fd42:0:0:1::/64',
  mtu: 1430,
  dns_servers: [],
};
const image = idFrom('image', 'img-0000000000000001');

function spec(number: number, change: Partial<VmSpec> = {}): VmSpec {
  const mac = `02:00:5e:10:00:0${number}`;
  const interfaces = [{ network, mac, address: formatIpv6(slaacAddress(storedPrefix(network.cidr).address, mac)) }];
  const id = idFrom('vm', `vm-${String(number).padStart(16, '0')}`);
  const size = { cpus: 1, memory: 256 * MiB, disk_size: 1024 * MiB };
  const constant = { fence: 3, generation: 5, image, firmware: 'bios' } as const;
  return { id, name: `vm-${number}`, ...constant, interfaces, volumes: [], seed: testSeed(), ...size, ...change };
}
const addressOf = (vm: VmSpec) => vm.interfaces[0]?.address ?? '';

/** A boot sector whose program runs about 200 ms after the start. */
async function tinyImage(host: DrivenHost, code: readonly number[]): Promise<void> {
  const raw = join(host.dataDir, 'sector.raw');
  writeFileSync(raw, bootDisk(code));
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, join(host.imageStore, `${image}.qcow2`)]);
}
/** `hlt; jmp -3` */
const idle = [0xf4, 0xeb, 0xfd];
/** `mov dx, 0x604; mov ax, 0x2000; out dx, ax`: ACPI's power off. */
const powerOff = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, ...idle];
const qemus = (host: DrivenHost) => [...host.processes()].filter(([, line]) => line.startsWith('qemu-system'));
const observed = (vm: VmSpec, running: boolean) => ({ id: vm.id, running });

t.test('the command line gives QEMU no path of the host', async (t) => {
  const vm = spec(1);
  const args = qemuArguments({ vm: vm.id, accelerator: 'tcg', ...vm, instance: '0123abcd' });
  t.strictSame(
    args.filter((arg) => arg.includes('/')).map((arg) => arg.match(/\/[\w/]+/)?.[0]),
    ['/dev/fdset/2', '/dev/fdset/1', '/dev/fdset/3'],
  );
  t.match(args.join(' '), 'host_mtu=1430');
  t.match(uuidOf(vm.id), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  t.not(uuidOf(spec(1).id), uuidOf(spec(2).id));
  t.strictSame(unprivileged(7, [], ['a']).slice(0, 4), ['setpriv', '--reuid=7', '--regid=7', '--clear-groups']);
});

t.test('an accelerator is used only when a guest runs under it', { skip }, async (t) => {
  const directory = t.testdir();
  t.match(await bootProbe('tcg', directory, 1879048192, 120_000), { works: true });
  t.match(await bootProbe('tcg', directory, 1879048192, 20), { works: false, reason: /did not run within 20 ms/ });
});

t.test('a driver killed at any point leaves a VM that the next one starts, once', { skip }, async (t) => {
  const host = drivenHost(t, 'qcrash');
  const before = host.state();
  await tinyImage(host, idle);
  const vm = spec(1);
  // network.test.ts kills the driver of the networks alone, at every point.
  const first = host.driver('qemu');
  await first.call('setNetworks', [network]);
  await first.kill();
  let deaths = 0;
  for (let done = false; !done && deaths < 100; deaths++) {
    const driver = host.driver('qemu', { dieAfter: 1 });
    try {
      await driver.call('prepare', vm);
      await driver.call('start', vm);
      done = true;
    } catch (error) {
      if (!String(error).includes('the driver ended')) throw error;
      t.ok(qemus(host).length === 0, 'no guest before its network is there');
    }
    await driver.kill();
  }
  t.ok(deaths > 5, `${deaths} drivers died`);
  t.equal(qemus(host).length, 1);

  await t.test('also when it dies between making the process and letting the guest go', async (t) => {
    const driver = host.driver('qemu', { dieBefore: 'cont' });
    const other = spec(2);
    await driver.call('prepare', other);
    const started_at = (await driver.call<ObservedVm[]>('list'))[0]?.started_at;
    t.match(started_at, /^\d{4}-\d\d-\d\dT/);
    await t.rejects(driver.call('start', other), /the driver ended/);
    t.equal(qemus(host).length, 2, 'the process is there');
    const next = host.driver('qemu');
    t.strictSame(await next.call('list'), [
      { ...observed(vm, true), fence: 3, generation: 5, started_at },
      observed(other, false),
    ]);
    const pids = qemus(host).map(([pid]) => pid);
    await next.call('start', other);
    t.strictSame(
      qemus(host).map(([pid]) => pid),
      pids,
      'the process is taken over, not started anew',
    );
    t.match(await next.call('list'), [observed(vm, true), observed(other, true)]);
    await next.kill();
  });

  await t.test('and it goes as it came', async (t) => {
    for (let [done, processes] = [false, 0]; !done && processes < 100; processes++) {
      const driver = host.driver('qemu', { dieAfter: 1 });
      try {
        for (const { id } of [spec(1), spec(2)]) await driver.call('destroy', id);
        await driver.call('setNetworks', []);
        done = true;
        t.strictSame(await driver.call('list'), []);
      } catch (error) {
        if (!String(error).includes('the driver ended')) throw error;
      }
      await driver.kill();
    }
    const driver = host.driver('qemu');
    await driver.call('clean');
    t.equal(host.state(), before);
    t.strictSame(await driver.call('inventory'), []);
    await driver.kill();
  });
});

t.test('the console log has a bound, whatever a guest writes', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-console-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const [socket, log] = [join(directory, 'serial'), join(directory, 'console.log')];
  const flood = createServer((connection) => {
    const write = () => {
      while (connection.write(Buffer.alloc(64 * 1024, 'x')));
    };
    connection.on('drain', write).on('error', () => undefined);
    write();
  });
  await new Promise<void>((resolve) => flood.listen(socket, resolve));
  t.teardown(() => flood.close());
  const faults: unknown[] = [];
  const kept = new ConsoleLog(socket, log, (fault) => faults.push(fault));
  await until('there is an older part', () => statSync(`${log}.1`, { throwIfNoEntry: false }), 30);
  await kept.close();
  t.ok(statSync(`${log}.1`).size <= maxConsoleBytes);
  t.ok(statSync(log).size < maxConsoleBytes / 2, 'the guest is slowed down');
  t.strictSame(faults, []);
});

t.test('guests that end or hang', { skip }, async (t) => {
  const host = drivenHost(t, 'ends');
  const driver = host.driver('qemu');

  await t.test('a guest that shuts down is told from one that crashes', async (t) => {
    await tinyImage(host, powerOff);
    const vm = spec(1);
    await driver.call('prepare', vm);
    await driver.call('start', vm);
    await until('its end is told', () => driver.exits.length === 1);
    t.strictSame(driver.exits.splice(0), [{ vm: vm.id, cause: 'guest_shutdown' }]);
    t.match(await driver.call('list'), [observed(vm, false)]);
    await driver.call('destroy', vm.id);
    await tinyImage(host, idle);
    await driver.call('prepare', vm);
    await driver.call('start', vm);
    for (const [pid] of qemus(host)) process.kill(pid, 'SIGKILL');
    await until('its end is told', () => driver.exits.length === 1);
    t.strictSame(driver.exits.splice(0), [{ vm: vm.id, cause: 'crash' }]);
    await driver.call('start', vm);
    t.match(await driver.call('list'), [observed(vm, true)], 'it can be started again');
  });

  await t.test('one that does not heed is ended after the grace, a stopped process, too', async (t) => {
    const started = performance.now();
    await driver.call('stop', spec(1).id, 1);
    t.ok(performance.now() - started >= 1_000, 'it had its grace');
    t.match(await driver.call('list'), [observed(spec(1), false)]);
    await driver.call('start', spec(1));
    for (const [pid] of qemus(host)) process.kill(pid, 'SIGSTOP');
    await driver.call('stop', spec(1).id, 0);
    t.equal(qemus(host).length, 0);
    t.strictSame(driver.exits, [], 'what was asked for is not told');
    await driver.call('destroy', spec(1).id);
  });

  await t.test('bad wishes change nothing', async (t) => {
    await tinyImage(host, idle);
    const small = spec(3, { disk_size: 1 });
    await t.rejects(driver.call('prepare', small), /smaller than the image/);
    await t.rejects(
      driver.call('prepare', spec(3, { id: idFrom('vm', 'vm-../../../etc/pass') })),
      /not the id of a VM/,
    );
    const thief = spec(4, { interfaces: [{ network, mac: '06:00:5e:00:00:01', address: 'fd42:0:0:1::2' }] });
    await driver.call('prepare', thief);
    await t.rejects(driver.call('start', thief), /the router's address/);
    t.equal(qemus(host).length, 0);
    const second = host.driver('qemu');
    await t.rejects(second.call('list'), /another ucloud process uses this data directory/);
    await second.kill();
    await driver.call('clean');
  });
  await driver.kill();
});

/** A script for the shell of the firmware. It stores a variable at the first boot, and finds it at the second. */
const uefiScript = `@echo -off
setvar Ucloud -guid 9d2807b5-9d2c-4d3b-9a5d-0a5c0e0a0001
if %lasterror% == 0 then
  echo SECOND-BOOT
else
  setvar Ucloud -guid 9d2807b5-9d2c-4d3b-9a5d-0a5c0e0a0001 -bs -rt -nv =0x01
  echo FIRST-BOOT
endif
reset -s
`;

const noUefi = skip || (existsSync(uefiCode) ? false : 'the package ovmf is not installed');

t.test('UEFI starts a guest from its disk, and keeps the variables of the VM', { skip: noUefi }, async (t) => {
  const host = drivenHost(t, 'uefi');
  const [raw, script] = [join(host.dataDir, 'efi.raw'), join(host.dataDir, 'startup.nsh')];
  writeFileSync(script, uefiScript.replaceAll('\n', '\r\n'));
  writeFileSync(raw, '');
  truncateSync(raw, 64 * MiB);
  await run('mkfs.vfat', [raw]);
  await run('mcopy', ['-i', raw, script, '::startup.nsh']);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, join(host.imageStore, `${image}.qcow2`)]);
  const vm = spec(1, { firmware: 'uefi' });
  const consoleLog = join(host.dataDir, 'vms', vm.id, 'console.log');
  for (const text of ['FIRST-BOOT', 'SECOND-BOOT']) {
    // Another agent starts the VM for the second time, so only the disk of the host keeps the variables.
    const driver = host.driver('qemu');
    await driver.call('prepare', vm);
    await driver.call('start', vm);
    await until('the guest shuts down', () => driver.exits.length === 1, 120);
    t.match(readFileSync(consoleLog, 'latin1'), text);
    await driver.call('stop', vm.id, 0);
    await driver.kill();
  }
  const driver = host.driver('qemu');
  await driver.call('clean');
  t.notOk(existsSync(consoleLog), 'nothing remains');
  await driver.kill();
});

t.test(
  'UEFI boots a root volume, also of a VM whose variables are new',
  { skip: noUefi, timeout: 300_000 },
  async (t) => {
    const host = drivenHost(t, 'uefi-root');
    await efiDisk(host.dataDir, join(host.imageStore, `${image}.qcow2`), 'BOOTED-FROM-THE-VOLUME');
    const volume: VolumeSpec = {
      ...{ id: idFrom('volume', 'vol-0000000000000001'), host: idFrom('host', 'host-0000000000000001') },
      ...{ pool: { id: builtInPool, settings: { kind: 'local' } }, slot: rootSlot, root: true, size: 128 * MiB },
      ...{ max_iops: 0, max_throughput: 0, created: true },
    };
    const driver = host.driver('qemu');
    await driver.call('fillVolume', volume, { image });
    for (const number of [1, 2]) {
      const { image: _, ...rest } = spec(number, { firmware: 'uefi', disk_size: 0, volumes: [volume] });
      const consoleLog = join(host.dataDir, 'vms', rest.id, 'console.log');
      await driver.call('prepare', rest);
      await driver.call('start', rest);
      await until('the guest shuts down', () => driver.exits.length === number, 120);
      // The program turns the machine off at once, and the console log still has its text.
      t.match(readFileSync(consoleLog, 'latin1'), 'BOOTED-FROM-THE-VOLUME');
      await driver.call('destroy', rest.id);
    }
    await driver.call('clean', { volumes: true });
    await driver.kill();
  },
);

t.test('the QEMU of a guest copies its volume in the directory of a pool', { skip, timeout: 120_000 }, async (t) => {
  const host = drivenHost(t, 'pool-copies');
  await tinyImage(host, idle);
  const path = mkdtempSync(join(tmpdir(), 'pool-copies-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  const id = idFrom('storage_pool', 'stp-0000000000000001');
  const marker = `${id} ${'0'.repeat(32)}`;
  writeFileSync(join(path, markerFile), `${marker}\n`);
  const pool: PoolSpec = { id, settings: { kind: 'shared', path }, marker };
  const volume: VolumeSpec = {
    ...{ id: idFrom('volume', 'vol-0000000000000001'), host: idFrom('host', 'host-0000000000000001'), pool },
    ...{ slot: 0, size: 16 * MiB, max_iops: 0, max_throughput: 0, created: true },
  };
  const file = join(path, `${volume.id}.raw`);
  writeFileSync(file, '');
  truncateSync(file, volume.size);
  await run('qemu-io', ['-f', 'raw', '-c', 'write -P 3 1M 2M', file]);
  const driver = host.driver('qemu');
  const vm = spec(1, { volumes: [volume] });
  await driver.call('prepare', vm);
  await driver.call('start', vm);
  const snapshot = (number: number) => {
    const id = idFrom('snapshot', `snap-${String(number).padStart(16, '0')}`);
    return { id, disks: [{ volume: volume.id, maxSize: volume.size }], pool };
  };
  const foreign = driver.call('createSnapshot', snapshot(1));
  await t.rejects(foreign, /lock/, 'no other process reads the volume of a guest');
  const own = { ...snapshot(2), holder: vm.id };
  const { takenAt } = await driver.call<{ takenAt: string }>('createSnapshot', own);
  t.strictSame(await driver.call('createSnapshot', own), { takenAt }, 'it is made once');
  const copies = () => readdirSync(path).filter((name) => name.startsWith('snap-'));
  t.strictSame(copies(), [`${own.id}.raw`]);
  const read = (path: string) =>
    run('qemu-io', ['-f', 'raw', '-r', '-c', 'read -P 3 1M 2M', '-c', 'read -P 0 3M 13M', path]);
  t.notMatch(await read(join(path, `${own.id}.raw`)), /verification failed/);
  t.ok(statSync(join(path, `${own.id}.raw`)).blocks * 512 < 4 * MiB, 'the copy is sparse');
  const next = { ...volume, id: idFrom('volume', 'vol-0000000000000002') };
  await driver.call('fillVolume', next, { snapshot: own.id, disk: volume.id });
  t.notMatch(await read(join(path, `${next.id}.raw`)), /verification failed/);
  await driver.call('stop', vm.id, 0);
  await driver.call('createSnapshot', snapshot(1));
  t.strictSame(copies().length, 2, 'a volume without guest needs no guest');
  await driver.call('clean');
  await driver.kill();
});

t.test('a real guest', { skip: skip || noNamespaces('ssh-keyscan') }, async (t) => {
  const host = drivenHost(t, 'real');
  const before = host.state();
  copyFileSync(await demoImage(t.testdir()), join(host.imageStore, `${image}.qcow2`));
  process.env.SECRET_OF_THE_AGENT = 'token';
  let driver = host.driver('qemu');
  const vm = spec(1);
  const reaches = (program: string, ...args: string[]) => {
    try {
      return host.namespace.run(program, ...args);
    } catch {
      return undefined;
    }
  };
  const answers = (t: Test) =>
    until('the guest answers ping', () => reaches('ping', '-6', '-c1', '-W5', addressOf(vm)), 240).then((answer) =>
      t.match(answer, '1 received'),
    );
  const hostKey = () =>
    until(
      'the guest shows its ssh host key',
      () => reaches('ssh-keyscan', '-T20', '-t', 'ed25519', addressOf(vm)),
      240,
    ).then((text) => text.trim().split(' ')[2]);
  let firstKey: string | undefined;

  await t.test('starts, with the address that was foreseen', async (t) => {
    await driver.call('setNetworks', [network]);
    await driver.call('prepare', vm);
    await driver.call('start', vm);
    await answers(t);
    firstKey = await hostKey();
    t.ok(firstKey);
    t.match(readFileSync(join(host.dataDir, 'vms', vm.id, 'console.log'), 'utf8'), /ed25519/i, 'its console is logged');
  });

  await t.test('runs without any privilege, in a sandbox', async (t) => {
    const [[pid] = [0]] = qemus(host);
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const [, uid] = /^Uid:\t(\d+)\t\1\t\1\t\1$/m.exec(status) ?? [];
    t.ok(Number(uid) >= 1879048192, `user ${uid}`);
    t.match(status, new RegExp(`^Gid:\t${uid}\t${uid}\t${uid}\t${uid}$`, 'm'));
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']) t.match(status, new RegExp(`^Cap${set}:\t0{16}$`, 'm'));
    t.match(status, /^NoNewPrivs:\t1$/m);
    t.match(status, /^Seccomp:\t2$/m);
    t.match(status, new RegExp(`^Groups:\\t${processGroupId(instanceOf(host.dataDir))} ?$`, 'm'));
    const environmentOf = (process: number | undefined) => readFileSync(`/proc/${process}/environ`, 'utf8');
    t.match(environmentOf(driver.child.pid), 'SECRET_OF_THE_AGENT');
    t.notMatch(environmentOf(pid), 'SECRET_OF_THE_AGENT', 'it inherits nothing of the agent');
    t.equal(statSync(join(host.dataDir, 'vms', vm.id, 'disk.qcow2')).uid, 0, 'its disk is not even its own');
  });

  await t.test('does not notice that the agent is killed, and is adopted', async (t) => {
    const pids = qemus(host).map(([pid]) => pid);
    await driver.kill();
    await answers(t);
    driver = host.driver('qemu');
    t.match(await driver.call('list'), [{ ...observed(vm, true), fence: 3, generation: 5 }]);
    await driver.call('start', vm);
    t.strictSame(
      qemus(host).map(([pid]) => pid),
      pids,
    );
  });

  await t.test('nothing else can open its disk for writing', async (t) => {
    const disk = join(host.dataDir, 'vms', vm.id, 'disk.qcow2');
    await t.rejects(run('qemu-io', ['-c', 'write 0 512', disk]), CommandError);
    await t.rejects(run('qemu-io', ['-c', 'write 0 512', disk]), /lock/);
  });

  await t.test('shuts down when asked, and has its data when started again, on a larger disk', async (t) => {
    await driver.call('stop', vm.id, 30);
    t.match(await driver.call('list'), [observed(vm, false)]);
    t.notMatch(host.state(), 'ut005e100001');
    const larger = { ...vm, disk_size: 1536 * MiB };
    await driver.call('prepare', larger);
    await driver.call('start', larger);
    await answers(t);
    t.equal(await hostKey(), firstKey);
    const header = readFileSync(join(host.dataDir, 'vms', vm.id, 'disk.qcow2')).subarray(24, 32);
    t.equal(header.readBigUInt64BE(), BigInt(1536 * MiB));
  });

  await t.test('leaves nothing behind', async (t) => {
    await driver.call('destroy', vm.id);
    t.strictSame(await driver.call('list'), []);
    await driver.call('clean');
    t.equal(host.state(), before);
    await driver.kill();
  });
});
