/**
 * Users create and delete VMs and networks in a lab, while the leading member of etcd is killed, the leading scheduler is
 * killed, and the link of a host is cut and healed. The test prints the errors and the latencies that the users see, and
 * checks that nothing is lost. Under `npm run show`, each fault lasts 30 s and the VMs are those of QEMU; under `npm test`, it
 * lasts 5 s and they are simulated.
 */
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { etcdPorts } from '../../backend/lab/plan.ts';
import { leaders } from '../../backend/model/records/index.ts';
import { read } from '../../backend/store/collection.ts';
import { openStore } from '../../backend/store/open.ts';
import { formatTable } from '../../bench/support/table.ts';
import { until } from '../support/eventually.ts';
import { isLong, LabCloud, noLab, tell } from '../support/lab-cloud.ts';
import { noQemu } from '../support/qemu.ts';
import { silentLogger } from '../support/silent-logger.ts';

const skip = noLab() || (isLong && (await noQemu())) || false;
const phaseMs = isLong ? 30_000 : 5_000;
const users = 3;
/** The time after which a user repeats a request that has failed. */
const retryMs = 200;
/** The time between two networks. */
const pauseMs = 100;
/** The time after which a user counts a request as failed. */
const patienceMs = 10_000;

/** The answers that users get in one phase. */
interface Phase {
  readonly name: string;
  /** The latency of each successful request, in milliseconds. */
  readonly latencies: number[];
  readonly errors: Map<string, number>;
  /** The times from a creation to the running VM. */
  readonly starts: number[];
}

/** Returns the name of the member that leads etcd. */
async function etcdLeader(lab: LabCloud): Promise<string> {
  const file = (name: string) => readFileSync(join(lab.directory, 'certificates', name));
  const tls = { ca: file('ca.pem'), cert: file('client.pem'), key: file('client-key.pem') };
  for (const { name, address, daemons } of lab.plan.nodes) {
    if (!daemons.includes('etcd')) continue;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const path = '/v3/maintenance/status';
    const asked = request({ ...tls, host: address, port: etcdPorts.client, method: 'POST', path }, (answer) =>
      text(answer).then(resolve, reject),
    );
    asked.on('error', reject).end('{}');
    const { leader, header } = JSON.parse(await promise) as {
      readonly leader: string;
      readonly header: { readonly member_id: string };
    };
    if (leader === header.member_id) return name;
  }
  throw new Error('no member leads');
}

/** Returns the node of the scheduler that leads. */
async function leadingScheduler(lab: LabCloud): Promise<string> {
  const store = await openStore(lab.store, { logger: silentLogger });
  try {
    return await until('a scheduler leads', async () => {
      const holder = (await read(store, leaders, 'scheduler'))?.value.id ?? '';
      const pid = Number(/\d+$/.exec(holder)?.[0]);
      return ['scheduler-1', 'scheduler-2'].find((node) => lab.node(node).pids().includes(pid));
    });
  } finally {
    await store.close();
  }
}

const percentile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? Number.NaN;
const ms = (value: number): string => (Number.isNaN(value) ? '–' : value.toFixed(0));
const seconds = (value: number): string => (Number.isNaN(value) ? '–' : (value / 1000).toFixed(1));

t.test('users of a cloud with faults', { skip, timeout: 1_800_000 }, async (t) => {
  const lab = await LabCloud.start(t, { hosts: 3, etcd: 3, hypervisor: isLong ? 'qemu' : 'simulated' });
  const { member } = lab;
  const image = await lab.emptyImage();
  const prefix = await member.create('prefixes', { name: 'site', length: 56 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const phases: Phase[] = [];
  const enter = (name: string): void => void phases.push({ name, latencies: [], errors: new Map(), starts: [] });
  const now = (): Phase => phases.at(-1) ?? { name: '', latencies: [], errors: new Map(), starts: [] };

  /** Sends a request until it succeeds, as a client does that repeats it. */
  const insist = async (method: string, path: string, body?: object) => {
    const key = { 'idempotency-key': `key-${Math.random()}` };
    for (;;) {
      const phase = now();
      const begin = performance.now();
      const outcome = await Promise.race([
        member.request(method, path, body, method === 'GET' ? {} : key).catch(() => 'no connection' as const),
        delay(patienceMs + (path.includes('timeout=') ? patienceMs : 0), 'no answer' as const, { ref: false }),
      ]);
      const isAnswer = typeof outcome !== 'string';
      if (isAnswer && (outcome.status < 400 || outcome.status === 404)) {
        if (!path.includes('timeout=')) phase.latencies.push(performance.now() - begin);
        return outcome;
      }
      const error = isAnswer ? `${outcome.status} ${outcome.body.code}` : outcome;
      phase.errors.set(error, (phase.errors.get(error) ?? 0) + 1);
      await delay(retryMs);
    }
  };
  /** Waits until the VM is as wanted; undefined after its removal. */
  const waitFor = async (id: string, revision: number, wanted: string): Promise<boolean> => {
    for (let after = revision; ; ) {
      const { status, body } = await insist('GET', `/v1/vms/${id}?after=${after}&timeout=5`);
      if (status === 404) return wanted === 'gone';
      if (body.status.phase === wanted) return true;
      after = body.revision;
    }
  };

  const kept = new Set<string>();
  const removed = new Set<string>();
  let isOver = false;
  const user = async (number: number): Promise<void> => {
    for (let round = 0; !isOver; round++) {
      const phase = now();
      const begin = performance.now();
      const { status, body } = await insist('POST', '/v1/vms', {
        ...{ name: `vm-${number}-${round}`, image, memory: '128MiB', disk_size: '64MiB' },
        interfaces: [{ network: network.id }],
      });
      if (status !== 201) throw new Error(`a VM cannot be created: ${status} ${JSON.stringify(body)}`);
      kept.add(body.id);
      if (!(await waitFor(body.id, body.revision, 'running'))) throw new Error(`${body.id} is lost`);
      phase.starts.push(performance.now() - begin);
      // The last one of each user stays.
      if (isOver) return;
      const answer = await insist('DELETE', `/v1/vms/${body.id}`);
      kept.delete(body.id);
      removed.add(body.id);
      if (answer.status === 202) await waitFor(body.id, answer.body.revision, 'gone');
    }
  };

  /** Creates and deletes networks, which takes one commit each. */
  const administrator = async (): Promise<void> => {
    for (let round = 0; !isOver; round++) {
      const { status, body } = await insist('POST', '/v1/networks', { name: `net-${round}`, prefix: prefix.id });
      if (status !== 201) throw new Error(`a network cannot be created: ${status} ${JSON.stringify(body)}`);
      await insist('DELETE', `/v1/networks/${body.id}`);
      await delay(pauseMs);
    }
  };

  enter('no fault');
  const all = Promise.all([administrator(), ...Array.from({ length: users }, (_, number) => user(number))]);
  all.catch(() => undefined);
  const phase = async (name: string, fault: () => Promise<unknown>): Promise<void> => {
    enter(name);
    await fault();
    // The users work meanwhile; only time ends a phase.
    await Promise.race([all, delay(phaseMs)]);
  };
  await Promise.race([all, delay(phaseMs)]);
  await phase('the leading etcd member is killed', async () => lab.ucloud('lab', 'kill', `${await etcdLeader(lab)}`));
  await phase('the member starts again', () => lab.ucloud('lab', 'heal'));
  await phase('the leading scheduler is killed', async () => lab.ucloud('lab', 'kill', await leadingScheduler(lab)));
  await phase('the scheduler starts again', () => lab.ucloud('lab', 'heal'));
  await phase('the link of host-2 is cut', () => lab.ucloud('lab', 'partition', 'host-2'));
  await phase('the link is healed', () => lab.ucloud('lab', 'heal'));
  isOver = true;
  await all;

  tell(
    t,
    formatTable(
      ['phase', 'requests', 'p50, ms', 'p99, ms', 'longest, ms', 'errors', 'to running: p50, s', 'longest, s'],
      phases.map(({ name, latencies, errors, starts }) => [
        ...[name, `${latencies.length}`, ms(percentile(latencies, 0.5)), ms(percentile(latencies, 0.99))],
        ms(Math.max(...latencies, Number.NEGATIVE_INFINITY)),
        [...errors].map(([error, count]) => `${count} × ${error}`).join(', ') || 'none',
        ...[seconds(percentile(starts, 0.5)), seconds(percentile(starts, 1))],
      ]),
    ),
  );
  t.ok(
    phases.every(({ latencies }) => latencies.length > 0),
    'users get answers in each phase',
  );
  t.equal(phases[0]?.errors.size, 0, 'without a fault, there is no error');
  const { items } = await member.list('vms', '?limit=1000');
  t.strictSame(items.map(({ id }) => id).toSorted(), [...kept].toSorted(), 'the VMs are those that the users have');
  t.ok(items.every(({ status }) => status.phase === 'running'));
  t.equal((await member.list('networks')).items.length, 1, 'no network of the administrator is left');
  const { items: hosts } = await lab.operator.list('hosts');
  const given = hosts.reduce((sum, { allocated }) => sum + allocated.memory, 0);
  t.equal(given, kept.size * 128 * 2 ** 20, 'hosts have given exactly their memory');
  t.comment(`${removed.size} VMs were created and deleted`);
  if (!isLong) return;
  await until('the guests on the hosts are these VMs', () => {
    const running = [...lab.hosts.keys()].flatMap((host) => [...lab.guestsOn(host).keys()]);
    return running.toSorted().join() === [...kept].toSorted().join();
  });
});
