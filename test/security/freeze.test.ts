/** Attacks of a guest on the freezing of its file systems for a snapshot. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SnapshotError } from '../../backend/host/hypervisor/hypervisor.ts';
import { FileSystems } from '../../backend/host/hypervisor/qemu/freeze.ts';
import { Mutex } from '../../backend/host/system/mutex.ts';
import { until } from '../support/eventually.ts';
import { type Answer, endless, port, synchronizing } from '../support/guest-agent.ts';
import { temporaryDirectory } from '../support/stores.ts';

const retry = { firstMs: 10, maxMs: 40 };
const limits = { freezeMs: 400, frozenMs: 800, thawMs: 400, retry };

/** A guest agent with file systems. A hung one carries out the commands when it wakes up, and its answers are lost. */
class FakeAgent {
  frozen = false;
  hung = false;
  /** Answers that replace the right ones, by command. A function that returns undefined gives no answer. */
  readonly false: Record<string, Answer> = {};
  #held: string[] = [];

  readonly answer = synchronizing((command, args, socket) => {
    if (this.hung) {
      this.#held.push(command);
      return undefined;
    }
    const other = this.false[command];
    return other ? other(command, args, socket) : { return: this.#do(command) };
  });

  #do(command: string): unknown {
    if (command === 'guest-fsfreeze-status') return this.frozen ? 'frozen' : 'thawed';
    if (command === 'guest-fsfreeze-freeze') this.frozen = true;
    if (command === 'guest-fsfreeze-thaw') this.frozen = false;
    return 1;
  }

  wake(): void {
    this.hung = false;
    for (const command of this.#held.splice(0)) this.#do(command);
  }
}

async function frozenGuest(t: Test, agent = new FakeAgent(), listens = async () => true) {
  const { path, commands, sockets } = await port(t, (...call) => agent.answer(...call));
  const mark = join(temporaryDirectory(t), 'frozen');
  const faults: string[] = [];
  const calls = new Mutex();
  const guest = { agent: path, mark, calls, listens, fault: (_error: unknown, text: string) => void faults.push(text) };
  /** As another host agent: with its own turns. */
  const open = (change: Partial<typeof limits> = {}): FileSystems => {
    const fileSystems = new FileSystems({ ...guest, calls: new Mutex() }, { ...limits, ...change });
    t.teardown(() => fileSystems.release());
    return fileSystems;
  };
  const fileSystems = new FileSystems(guest, limits);
  t.teardown(() => fileSystems.release());
  return { agent, commands, sockets, mark, faults, calls, open, fileSystems };
}

const faultOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );
const thawedSoon = (agent: FakeAgent, mark: string) =>
  until('the guest is thawed', () => !agent.frozen && !existsSync(mark));

t.test('file systems are frozen only while a copy begins', async (t) => {
  const { agent, mark, fileSystems, faults } = await frozenGuest(t);
  const seen = await fileSystems.during(async () => [agent.frozen, existsSync(mark)]);
  t.strictSame(seen, [true, true], 'the mark of the freeze is there');
  t.notOk(agent.frozen);
  t.notOk(existsSync(mark));
  await t.rejects(
    fileSystems.during(async () => {
      throw new Error('the copy fails');
    }),
    /the copy fails/,
  );
  t.notOk(agent.frozen, 'also when the copy fails');
  t.notOk(existsSync(mark));
  t.strictSame(faults, []);
});

t.test('a guest agent that lies, floods or hangs gets an error in time, and no guest stays frozen', async (t) => {
  const flood: Answer = (_command, _args, socket) => void endless(socket, '{"return": 1}\n'.repeat(5_000));
  const attacks: Readonly<Record<string, readonly [command: string, answer: Answer]>> = {
    'freezes nothing': ['guest-fsfreeze-freeze', () => ({ return: 0 })],
    'freezes a text': ['guest-fsfreeze-freeze', () => ({ return: 'frozen' })],
    'freezes half a file system': ['guest-fsfreeze-freeze', () => ({ return: 0.5 })],
    'cannot freeze': ['guest-fsfreeze-freeze', () => ({ error: { desc: 'not supported' } })],
    'does not answer the freeze': ['guest-fsfreeze-freeze', () => undefined],
    'floods the freeze': ['guest-fsfreeze-freeze', flood],
    'knows no state': ['guest-fsfreeze-status', () => ({ error: { desc: 'not found' } })],
    'is always thawed': ['guest-fsfreeze-status', () => ({ return: 'thawed' })],
    'is always frozen': ['guest-fsfreeze-status', () => ({ return: 'frozen' })],
    'has an object as state': ['guest-fsfreeze-status', () => ({ return: { toString: 1 } })],
    'floods the state': ['guest-fsfreeze-status', flood],
  };
  for (const [name, [command, answer]] of Object.entries(attacks)) {
    const { agent, mark, fileSystems } = await frozenGuest(t);
    agent.false[command] = answer;
    const began = performance.now();
    const fault = await faultOf(fileSystems.during(async () => undefined));
    t.ok(fault instanceof SnapshotError && fault.reason === 'freeze_failed' && fault.retry, `${name}: ${fault}`);
    t.ok(performance.now() - began < 4_000, `${name}: it ends in time`);
    delete agent.false[command];
    await thawedSoon(agent, mark);
  }
});

t.test('a hung guest agent that freezes late is thawed, and gets nothing but thaws before', async (t) => {
  const { agent, commands, mark, fileSystems, faults, calls } = await frozenGuest(t);
  agent.false['guest-fsfreeze-freeze'] = () => {
    agent.hung = true;
    // The agent takes the command when it wakes up.
    return agent.answer('guest-fsfreeze-freeze', {}, undefined as never);
  };
  t.match(await faultOf(fileSystems.during(async () => t.fail('nothing is copied'))), { reason: 'freeze_failed' });
  t.ok(existsSync(mark));
  t.ok(fileSystems.thawPending);
  const again = faultOf(fileSystems.during(async () => t.fail('nothing is copied')));
  t.match(await again, { reason: 'freeze_failed', message: /has not confirmed yet/ });
  await calls.run(async () => t.pass('other sessions get their turn'));
  delete agent.false['guest-fsfreeze-freeze'];
  const before = commands.length;
  agent.wake();
  await thawedSoon(agent, mark);
  await until('nothing is pending', () => !fileSystems.thawPending);
  const allowed = ['guest-sync-delimited', 'guest-fsfreeze-thaw', 'guest-fsfreeze-status'];
  t.strictSame(
    commands.slice(before).filter((command) => !allowed.includes(command)),
    [],
  );
  t.strictSame(faults, ['the file systems of the guest may be frozen; the agent thaws them'], 'the operator learns it');
  t.ok(await fileSystems.during(async () => true), 'the next freeze succeeds');
});

t.test('a guest is thawed after the time limit, however long the copy takes to begin', async (t) => {
  const { agent, mark, fileSystems } = await frozenGuest(t);
  const never = Promise.withResolvers<void>();
  const began = performance.now();
  const fault = await faultOf(fileSystems.during(() => never.promise));
  t.match(fault, { reason: 'freeze_failed', message: /did not begin before/ });
  t.ok(performance.now() - began < 3_000);
  t.notOk(agent.frozen);
  t.notOk(existsSync(mark));
});

t.test('a host agent that ends during a freeze thaws the guest first', async (t) => {
  const { agent, mark, open } = await frozenGuest(t);
  const fileSystems = open({ freezeMs: 60_000, frozenMs: 60_000, thawMs: 60_000 });
  const begins = Promise.withResolvers<void>();
  const snapshot = fileSystems.during(() => {
    begins.resolve();
    return new Promise(() => undefined);
  });
  const failed = t.rejects(snapshot, /The agent ends/);
  await begins.promise;
  t.ok(agent.frozen);
  await fileSystems.close();
  t.notOk(agent.frozen);
  t.notOk(existsSync(mark));
  await failed;
  await t.rejects(
    fileSystems.during(async () => t.fail('no freeze begins any more')),
    /The agent ends/,
  );
});

t.test('a guest is thawed also when its mark is lost', async (t) => {
  const { agent, mark, fileSystems } = await frozenGuest(t);
  await fileSystems.during(async () => rmSync(mark));
  t.notOk(agent.frozen);
});

t.test('a guest that thaws by itself has no consistent copy', async (t) => {
  const { agent, fileSystems } = await frozenGuest(t);
  const thaws = async () => {
    agent.frozen = false;
  };
  t.match(await faultOf(fileSystems.during(thaws)), { reason: 'freeze_failed', message: /did not stay frozen/ });
});

t.test('the next host agent thaws a guest that the killed one has left frozen', async (t) => {
  const { agent, commands, mark, open } = await frozenGuest(t);
  const never = Promise.withResolvers<void>();
  const began = Promise.withResolvers<void>();
  open({ frozenMs: 60_000 })
    .during(() => {
      began.resolve();
      return never.promise;
    })
    .catch(() => undefined);
  await began.promise;
  t.ok(agent.frozen && existsSync(mark));
  const next = open();
  await next.continueThaw();
  t.ok(next.thawPending);
  await thawedSoon(agent, mark);
  await until('nothing is pending', () => !next.thawPending);
  const before = commands.length;
  await open().continueThaw();
  t.equal(commands.length, before, 'a guest without mark is asked nothing');
  never.resolve();
});

t.test('a VM without guest agent has no snapshot with consistent file systems', async (t) => {
  const { commands, mark, fileSystems } = await frozenGuest(t, new FakeAgent(), async () => false);
  t.match(await faultOf(fileSystems.during(async () => t.fail('nothing is copied'))), {
    reason: 'no_guest_agent',
    message: 'No guest agent runs in the VM.',
  });
  t.strictSame(commands, []);
  t.notOk(existsSync(mark));
});

t.test('a guest that never confirms its thaw is asked ever more rarely, until it ends', async (t) => {
  const agent = new FakeAgent();
  const { commands, mark, fileSystems, sockets } = await frozenGuest(t, agent);
  agent.false['guest-fsfreeze-thaw'] = () => ({ error: { desc: 'no' } });
  await faultOf(fileSystems.during(async () => undefined));
  const thaws = () => commands.filter((command) => command === 'guest-fsfreeze-thaw').length;
  await until('it is asked again', () => thaws() > 3);
  t.ok(existsSync(mark), 'the mark stays');
  fileSystems.release();
  await until('no session runs', () => sockets.size === 0 && !fileSystems.thawPending);
  const before = thaws();
  await t.rejects(fileSystems.during(async () => undefined));
  t.ok(thaws() <= before + 1, 'nothing is repeated after the end');
});
