/**
 * A VM moves between three hosts of a lab, stopped and started. After each move, the entries of all kernels are those of
 * its place, and no others. `npm run show` moves it 100 times, `npm test` six times.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { nodeNamed } from '../../backend/lab/plan.ts';
import { transitAddress, vxlanName } from '../../backend/model/network/fabric.ts';
import { bridgeName, tapName } from '../../backend/model/network/interface-names.ts';
import { eventually } from '../support/eventually.ts';
import { isLong, LabCloud, noLab, tell } from '../support/lab-cloud.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip = noLab() || (await noQemu()) || false;
const moves = isLong ? 100 : 6;
/** The VM also runs after each of so many moves. */
const startEvery = isLong ? 10 : 3;
const hosts = ['host-1', 'host-2', 'host-3'];

t.test('a VM that moves again and again leaves nothing behind', { skip, timeout: 3_600_000 }, async (t) => {
  const lab = await LabCloud.start(t, { hosts: 3, etcd: 1, hypervisor: 'qemu' });
  const { member, operator } = lab;
  const shared = join(temporaryDirectory(t), 'shared');
  mkdirSync(shared);
  await lab.ucloud('storage-pool', 'create', '--name', 'fast', '--kind', 'shared', '--path', shared, '--wait');
  const pool = (await operator.list('storage-pools', '?name=fast')).items[0]?.id;
  const image = await lab.emptyImage();
  const prefix = await member.create('prefixes', { name: 'site', length: 56 });
  const web = await member.create('networks', { name: 'web', prefix: prefix.id });
  const db = await member.create('networks', { name: 'db', prefix: prefix.id });
  // A VM of the network runs on the first host only. All hosts run a VM of the project.
  const still = await lab.createVm('still', 'host-1', { image, interfaces: [{ network: web.id }] });
  const others = await Promise.all(
    hosts.map((host, index) => lab.createVm(`db-${index}`, host, { image, interfaces: [{ network: db.id }] })),
  );
  const root = await member.create('volumes', { name: 'root', size: '1GiB', image, pool });
  const vm = await member.create('vms', {
    ...{ name: 'moving', root_volume: root.id, memory: '192MiB', interfaces: [{ network: web.id }] },
    power_state: 'stopped',
  });
  for (const { id } of [still, ...others]) await lab.reaches(id, ({ status }) => status.phase === 'running');
  await lab.reaches(vm.id, ({ status }) => status.phase === 'stopped');
  const [{ mac, address } = { mac: '', address: '' }] = vm.interfaces;

  /** Returns the entries of a kernel for the VM. */
  const entriesOn = (name: string) => {
    const node = lab.node(name);
    const lines = (text: string) =>
      text
        .split('\n')
        .map((line) => line.trim().replaceAll(/ +/g, ' '))
        .filter(Boolean);
    return {
      bridge: lines(node.run('bridge', 'fdb', 'show'))
        .filter((line) => line.startsWith(mac))
        .toSorted(),
      routes: lines(node.ip('-6', 'route', 'show', address)),
      neighbours: lines(node.ip('-6', 'neigh', 'show', address, 'nud', 'permanent')),
      tap: node.ip('-o', 'link').includes(`${tapName(mac)}:`),
    };
  };
  /** Checks the entries of all kernels. @throws Error with those of a host that has others */
  const check = (place: string, isRunning: boolean): void => {
    const [bridge, tunnel] = [bridgeName(web.vni), vxlanName(web.vni)];
    const { address: underlay } = nodeNamed(lab.plan, place);
    const via = `via ${transitAddress(underlay)} dev uvtransit`;
    for (const name of hosts) {
      const found = entriesOn(name);
      const isRight =
        name === place
          ? isRunning
            ? found.bridge.length === 1 &&
              found.bridge[0]?.includes(`dev ${tapName(mac)} master ${bridge} static`) &&
              found.routes.length === 1 &&
              found.routes[0]?.includes(`dev ${bridge} `) &&
              found.neighbours.length > 0 &&
              found.tap
            : found.bridge.length === 0 && found.routes.length === 0 && found.neighbours.length === 0 && !found.tap
          : !found.tap &&
            found.routes.length === 1 &&
            found.routes[0]?.includes(via) &&
            (name === 'host-1'
              ? found.bridge.length === 2 &&
                found.bridge.some((line) => line.includes(`dev ${tunnel} dst ${underlay} self static`)) &&
                found.neighbours.length > 0
              : found.bridge.length === 0 && found.neighbours.length === 0);
      if (!isRight)
        throw new Error(`VM on ${place}, ${isRunning ? 'running' : 'stopped'}: ${name} has ${JSON.stringify(found)}`);
    }
  };
  const hostOf = async () => {
    const id = (await member.get('vms', vm.id)).status.host;
    return [...lab.hosts].find(([, host]) => host === id)?.[0] ?? '';
  };
  /** Ends the guest. It has no operating system that would do so itself. */
  const endGuest = () => {
    const pid = lab.guestsOn(place).get(vm.id);
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  };
  const times: number[] = [];
  let place = await hostOf();
  await eventually(() => check(place, false));
  for (let move = 1; move <= moves; move++) {
    const target = hosts[(hosts.indexOf(place) + 1 + (move % 2)) % 3] ?? '';
    const begin = performance.now();
    const { body } = await operator.expect(202, 'POST', `/v1/vms/${vm.id}/move`, { host: lab.hosts.get(target) });
    let operation = body;
    while (!['succeeded', 'failed'].includes(operation.state))
      operation = await operator.get('operations', operation.id, `?after=${operation.revision}&timeout=10`);
    t.equal(operation.state, 'succeeded', `move ${move} from ${place} to ${target}`);
    place = target;
    await eventually(() => check(place, false), 60_000);
    times.push(performance.now() - begin);
    if (move % startEvery !== 0) continue;
    await member.update('vms', vm.id, { power_state: 'running' });
    await lab.reaches(vm.id, ({ status }) => status.phase === 'running');
    await eventually(() => check(place, true), 60_000);
    await member.update('vms', vm.id, { power_state: 'stopped' });
    // Before, the agent would start a guest again that ends.
    await lab.reaches(vm.id, ({ status }) => status.phase !== 'running');
    endGuest();
    await lab.reaches(vm.id, ({ status }) => status.phase === 'stopped');
    await eventually(() => check(place, false), 60_000);
  }
  const sorted = times.toSorted((a, b) => a - b);
  const seconds = (ms: number | undefined) => ((ms ?? 0) / 1000).toFixed(2);
  tell(
    t,
    `${moves} moves; until all kernels are right: median ${seconds(sorted[moves >> 1])} s, longest ${seconds(sorted.at(-1))} s`,
  );
  t.equal(await hostOf(), place);
});
