/** Attacks on the agent of a host by a guest that has taken over its QEMU. */

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ObservedVm } from '../../backend/host/hypervisor/hypervisor.ts';
import { Guest } from '../../backend/host/hypervisor/qemu/guest.ts';
import { vmOfProcess } from '../../backend/host/hypervisor/qemu/process-identity.ts';
import { Qmp, QmpError } from '../../backend/host/hypervisor/qemu/qmp.ts';
import type { NetworkSpec, VmSpec } from '../../backend/host/hypervisor/specs.ts';
import { run } from '../../backend/host/system/command.ts';
import { defaultUidBase, instanceOf, processGroupId, runDirectory } from '../../backend/host/system/instance.ts';
import { identify } from '../../backend/host/system/processes.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { tapName } from '../../backend/model/network/interface-names.ts';
import { type DrivenHost, drivenHost } from '../support/driven-host.ts';
import { until } from '../support/eventually.ts';
import { type Attack, attacks, honest } from '../support/hostile-qmp.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { testSeed } from '../support/seeds.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 1024 ** 2;
const repository = new URL('../..', import.meta.url).pathname;

async function serve(t: Test, path: string, attack: Attack): Promise<Server & { readonly connections: Set<Socket> }> {
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    connections.add(socket);
    socket.on('error', () => undefined);
    attack(socket);
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });
  return Object.assign(server, { connections });
}

/** Sends all commands of the agent to a running QEMU. */
async function converse(path: string): Promise<string> {
  const qmp = await Qmp.connect(path, 500);
  try {
    qmp.on('event', () => undefined);
    return await qmp.status(500);
  } finally {
    qmp.close();
  }
}

const faultOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

t.test('the client of QMP believes nothing about the form of what it reads', async (t) => {
  const directory = temporaryDirectory(t);
  await serve(t, join(directory, 'honest'), honest);
  t.equal(await converse(join(directory, 'honest')), 'running', 'an honest one is understood');
  let number = 0;
  for (const [name, attack] of Object.entries(attacks)) {
    const path = join(directory, `${number++}`);
    const { connections } = await serve(t, path, attack);
    t.ok((await faultOf(converse(path))) instanceof QmpError, name);
    const idle = ({ destroyed, writableNeedDrain }: Socket) => destroyed || !writableNeedDrain;
    await until(`${name}: no more is read`, () => [...connections].every(idle));
    const written = [...connections].reduce((sum, socket) => sum + socket.bytesWritten - socket.writableLength, 0);
    t.ok(written < 8 * MiB, `${name}: ${written} bytes were read`);
  }
});

t.test('a flood of events is told once, and its connection ends', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'qmp');
  const { connections } = await serve(t, path, attacks['events by the million'] as Attack);
  await serve(t, join(directory, 'serial'), () => undefined);
  const self = await identify(process.pid);
  if (!self) throw new Error('this process is not there');
  const paths = {
    directory,
    disk: '',
    seed: '',
    variables: '',
    console: join(directory, 'c'),
    log: join(directory, 'l'),
    run: directory,
  };
  const told: string[] = [];
  const guest = new Guest(
    self,
    {
      ...paths,
      qmp: path,
      files: join(directory, 'files'),
      serial: join(directory, 'serial'),
      agent: join(directory, 'agent'),
      frozen: join(directory, 'frozen'),
    },
    (_error, message) => told.push(message),
  );
  t.teardown(() => guest.release());
  for (let round = 0; round < 3; round++) t.ok((await faultOf(guest.maintain())) instanceof QmpError);
  t.strictSame(told, ['the disk has an error and the VM is paused']);
  t.equal(connections.size, 3, 'a connection for each attempt');
  await until('they are closed', () => [...connections].every(({ destroyed }) => destroyed));
  const qmp = await Qmp.connect(path, 10_000);
  t.match(await faultOf(qmp.status(100_000)), { message: 'QEMU sends without end' }, 'before the answer is due');
});

t.test('a process cannot pass for the process of another VM', async (t) => {
  const instance = '0123abcd';
  const [own, other] = [idFrom('vm', 'vm-0000000000000001'), idFrom('vm', 'vm-0000000000000002')] as const;
  const groups = [processGroupId(instance)];
  const named = (vm: string, of = instance) => ['qemu', '-name', `guest=ucloud:${of}:${vm},debug-threads=on`];
  const cases: [string, Parameters<typeof vmOfProcess>, string | undefined][] = [
    ['it says what it is', [{ uid: 7, groups, args: named(own) }, own, instance], own],
    ['it gives another name', [{ uid: 7, groups, args: named(other) }, own, instance], own],
    ['it hides', [{ uid: 7, groups, args: ['sleep'] }, own, instance], own],
    ['its directory is lost', [{ uid: 7, groups, args: named(own) }, undefined, instance], own],
    ['a program without the group', [{ uid: 7, groups: [], args: named(own) }, own, instance], undefined],
    [
      'of another instance',
      [{ uid: 7, groups: [processGroupId('0123abce')], args: named(own) }, own, instance],
      undefined,
    ],
    ['it is about to become QEMU', [{ uid: 0, groups: [], args: named(own) }, undefined, instance], own],
    [
      'root runs something else',
      [{ uid: 0, groups: [], args: named(own, '0123abce') }, undefined, instance],
      undefined,
    ],
  ];
  for (const [name, args, expected] of cases) t.equal(vmOfProcess(...args), expected, name);
});

const network: NetworkSpec = {
  id: idFrom('network', 'net-0000000000000001'),
  vni: 1,
  cidr: 'fd42:0:0:1::/64',
  mtu: 1430,
  dns_servers: [],
};
const image = idFrom('image', 'img-0000000000000001');
const [hostileVm, honestVm] = [1, 2].map((number): VmSpec => {
  const size = { cpus: 1, memory: 64 * MiB, disk_size: 64 * MiB };
  const mac = `02:00:5e:10:00:0${number}`;
  const interfaces = [{ network, mac, address: `fd42::1:0:5eff:fe10:${number}` }];
  return {
    id: idFrom('vm', `vm-000000000000000${number}`),
    name: `vm-${number}`,
    seed: testSeed(),
    firmware: 'bios',
    fence: 1,
    generation: 1,
    image,
    interfaces,
    volumes: [],
    ...size,
  };
}) as [VmSpec, VmSpec];

/** Other users must be able to run a program of this repository. */
const unreadable = (): string | false => {
  try {
    const file = join(repository, 'test/support/hostile-qemu.ts');
    execFileSync('setpriv', ['--reuid=1879048192', '--clear-groups', 'test', '-r', file]);
    return false;
  } catch {
    return 'the repository is not readable by other users, as whom the processes of VMs run';
  }
};
const skip = noNamespaces('nft', 'radvd', 'qemu-system-x86_64', 'qemu-img', 'setpriv') || unreadable();

interface Hostile {
  readonly host: DrivenHost;
  readonly instance: string;
  /** Commands that hostile processes got. */
  commands(): string;
  plan(attack: string, title?: string): void;
}

/** A host whose first VM has a hostile process instead of QEMU. */
async function hostileHost(t: Test, label: string): Promise<Hostile> {
  const bin = mkdtempSync(join(tmpdir(), 'ucloud-hostile-'));
  chmodSync(bin, 0o755);
  const { PATH } = process.env;
  t.teardown(() => {
    process.env.PATH = PATH;
    rmSync(bin, { recursive: true });
  });
  const plan = join(bin, 'plan');
  writeFileSync(`${plan}.log`, '');
  chmodSync(`${plan}.log`, 0o666);
  const real = execFileSync('sh', ['-c', 'command -v qemu-system-x86_64'], { encoding: 'utf8' }).trim();
  const shim = join(bin, 'qemu-system-x86_64');
  const script = join(repository, 'test/support/hostile-qemu.ts');
  writeFileSync(
    shim,
    `#!/bin/sh\ncase "$*" in\n*${hostileVm.id}*) exec ${process.execPath} ${script} ${plan} "$@" ;;\nesac\nexec ${real} "$@"\n`,
  );
  chmodSync(shim, 0o755);
  // The drivers find it there.
  process.env.PATH = `${bin}:${PATH}`;
  const host = drivenHost(t, label);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(host.imageStore, `${image}.qcow2`), '1M']);
  return {
    host,
    instance: instanceOf(host.dataDir),
    commands: () => readFileSync(`${plan}.log`, 'utf8'),
    plan: (attack, title) => writeFileSync(plan, JSON.stringify({ attack, title })),
  };
}

const running = (vms: readonly ObservedVm[]) => vms.filter((vm) => vm.running).map(({ id }) => id);
const processesOf = (host: DrivenHost, uid: number): number[] =>
  [...host.processes().keys()].filter((pid) => {
    try {
      return lstatSync(`/proc/${pid}`).uid === uid;
    } catch {
      return false;
    }
  });

t.test('a taken-over QEMU', { skip }, async (t) => {
  const { host, instance, plan } = await hostileHost(t, 'taken');
  const uid = defaultUidBase(instance);
  let driver = host.driver('qemu');
  await driver.call('setNetworks', [network]);
  const start = async (vm: VmSpec) => {
    await driver.call('prepare', vm);
    await driver.call('start', vm);
  };

  await t.test('owns no directory in which the agent opens paths, and gets at no socket of another', async (t) => {
    plan('honest');
    await start(hostileVm);
    await start(honestVm);
    for (const vm of [hostileVm.id, honestVm.id]) {
      for (const directory of [join(runDirectory(instance), vm), join(host.dataDir, 'vms', vm)]) {
        const { uid, mode } = lstatSync(directory);
        t.strictSame({ uid, mode: mode & 0o777 }, { uid: 0, mode: 0o700 }, directory);
        for (const name of readdirSync(directory)) t.equal(lstatSync(join(directory, name)).uid, 0, name);
      }
    }
    const [pid] = processesOf(host, uid);
    t.match(readFileSync(`/proc/${pid}/limits`, 'utf8'), /Max file size +134888817 /, 'it cannot fill the disk');
    await driver.call('destroy', hostileVm.id);
  });

  await t.test('has no way to a tap but the one that it was given', async (t) => {
    const [pid] = [...host.processes()].find(([, line]) => line.includes(honestVm.id)) ?? [];
    for (const device of ['/dev/net/tun', '/dev/vhost-net']) {
      if (!existsSync(device)) continue;
      t.equal(lstatSync(`/proc/${pid}/root${device}`).rdev, lstatSync('/dev/null').rdev, device);
    }
    const [link] = JSON.parse(
      host.namespace.ip('-d', '-j', 'link', 'show', 'dev', tapName(honestVm.interfaces[0]?.mac ?? '')),
    ) as { operstate: string; linkinfo: { info_data: object } }[];
    t.match(link, { operstate: 'UP', linkinfo: { info_data: { vnet_hdr: false, user: 'root' } } });
  });

  await t.test('hides behind the name of another VM, and is found all the same', async (t) => {
    plan('says nothing', `guest=ucloud:${instance}:${honestVm.id}`);
    await start(hostileVm);
    await until('the name is forged', () =>
      processesOf(host, uid).some((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('guest=')),
    );
    t.strictSame(running(await driver.call('list')).sort(), [hostileVm.id, honestVm.id]);
    await driver.kill();
    driver = host.driver('qemu');
    t.strictSame(running(await driver.call('list')).sort(), [hostileVm.id, honestVm.id], 'by the next agent, too');
    await driver.call('destroy', hostileVm.id);
    t.strictSame(processesOf(host, uid), []);
    t.strictSame(running(await driver.call('list')), [honestVm.id]);
  });

  const chosen = [
    'closes at once',
    'greets and answers nothing',
    'a line null',
    'null as result',
    'a line without end',
    'events by the million',
  ];
  for (const attack of chosen) {
    await t.test(`cannot keep the agent from its work: ${attack}`, async (t) => {
      plan(attack);
      await start(hostileVm);
      const began = performance.now();
      await driver.call('stop', hostileVm.id, 1);
      t.ok(performance.now() - began < 20_000, 'it is stopped in time');
      t.strictSame(processesOf(host, uid), [], 'by SIGKILL');
      await driver.call('destroy', hostileVm.id);
      t.strictSame(running(await driver.call('list')), [honestVm.id], 'and the other VM runs');
    });
  }
});
