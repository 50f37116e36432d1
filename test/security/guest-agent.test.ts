/** Attacks of a guest on the host agent over the port of the guest agent. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import {
  GuestAgentError,
  readGuestFile,
  tellsUseOfDisks,
  volumeUses,
  withGuestAgent,
} from '../../backend/host/hypervisor/qemu/guest-agent.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { type Answer, endless, port, synchronizing } from '../support/guest-agent.ts';

const volume = idFrom('volume', 'vol-0123456789abcdef');

const faultOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

const ping = (path: string, timeoutMs = 2_000) =>
  withGuestAgent(path, timeoutMs, (session) => session.call('guest-ping'));

t.test('a guest agent cannot hold up or fill the host agent', async (t) => {
  const attacks: Readonly<Record<string, readonly [Answer, ((socket: Socket) => void)?]>> = {
    'closes at once': [() => undefined, (socket) => socket.destroy()],
    'says nothing': [() => undefined],
    'never synchronizes': [() => ({ return: 7 })],
    'synchronizes with a text': [(_command, { id }) => ({ return: `${id}` })],
    'answers nothing afterwards': [synchronizing(() => undefined)],
    'a line without end': [() => undefined, (socket) => endless(socket, Buffer.alloc(65536, 0x20))],
    'empty lines without end': [() => undefined, (socket) => endless(socket, '\n'.repeat(65536))],
    'objects without end': [() => undefined, (socket) => endless(socket, '{"return": 1}\n'.repeat(5_000))],
    'delimiters without end': [() => undefined, (socket) => endless(socket, Buffer.alloc(65536, 0xff))],
    'an answer without end': [
      synchronizing((_command, _args, socket) => void endless(socket, Buffer.alloc(65536, 0x5b))),
    ],
    'null as answer': [synchronizing(() => null)],
    'a number as answer': [synchronizing(() => 7)],
    'a null error': [synchronizing(() => ({ error: null }))],
    'an error with control characters': [synchronizing(() => ({ error: { desc: `\u001b[2J${'x'.repeat(100_000)}` } }))],
    'a key of the prototype': [synchronizing(() => ({ ['__proto__']: { return: 1 } }))],
    'deep nesting': [
      synchronizing((_command, _args, socket) => {
        socket.write(`${'['.repeat(900_000)}\n`);
        return undefined;
      }),
    ],
  };
  for (const [name, [answer, greet]] of Object.entries(attacks)) {
    const { path, commands } = await port(t, answer, greet);
    const began = performance.now();
    const before = process.memoryUsage().rss;
    const fault = await faultOf(ping(path, 1_000));
    t.ok(fault instanceof GuestAgentError, `${name}: ${fault}`);
    const { message } = fault as Error;
    t.ok(message.length < 1_000 && !message.includes('\u001b'), `${name}: a short message`);
    t.ok(performance.now() - began < 5_000, `${name}: it ends in time`);
    t.ok(process.memoryUsage().rss - before < 256 * 1024 ** 2, `${name}: it needs little memory`);
    t.ok(commands.length <= 2, `${name}: nothing more is sent`);
  }
});

t.test('answers to an earlier session are not taken for answers to this one', async (t) => {
  const late = '{"return": {"late": true}}\n{"return": 41}\n{"ret';
  const { path } = await port(
    t,
    synchronizing(() => ({ return: { right: true } })),
    (socket) => void socket.write(late),
  );
  t.strictSame(await ping(path), { right: true });
});

t.test('two answers to one question end the session', async (t) => {
  const { path } = await port(
    t,
    synchronizing((_command, _args, socket) => {
      socket.write('{"return": 1}\n{"return": 2}\n');
      return undefined;
    }),
  );
  const fault = faultOf(
    withGuestAgent(path, 2_000, async (session) => {
      await session.call('guest-ping');
      await session.call('guest-ping');
    }),
  );
  t.match(await fault, { message: /without a question/ });
});

t.test('nothing is read between two sessions', async (t) => {
  const { path, sockets } = await port(
    t,
    synchronizing(() => ({ return: {} })),
  );
  await ping(path);
  await ping(path);
  await t.resolves(
    Promise.all([...sockets].map((socket) => (socket.destroyed ? undefined : once(socket, 'close')))),
    'no connection stays',
  );
});

t.test('false answers about disks count as use, and choose no file of the guest', async (t) => {
  const answers: Readonly<Record<string, unknown>> = {
    'no list': null,
    'a number': 7,
    'a list of null': [null],
    'a device elsewhere': [{ name: '/dev/vd../../../etc/shadow' }],
    'a device with a long name': [{ name: `/dev/vd${'a'.repeat(5_000)}` }],
    'an object as name': [{ name: { toString: 1 } }],
  };
  for (const [name, disks] of Object.entries(answers)) {
    const opened: unknown[] = [];
    const { path } = await port(
      t,
      synchronizing((command, args) => {
        if (command === 'guest-get-disks') return { return: disks };
        if (command === 'guest-get-fsinfo') return { return: [] };
        if (command === 'guest-file-open') opened.push(args.path);
        return { return: command === 'guest-file-open' ? 1 : { 'buf-b64': '' } };
      }),
    );
    const uses = await volumeUses(path, [volume], 2_000);
    if (name !== 'a device elsewhere') t.type(uses.get(volume), 'string', `${name} counts as use`);
    t.strictSame(opened, ['/proc/swaps', '/proc/self/mounts'], `${name}: no other file is read`);
  }
  const refusing = await port(
    t,
    synchronizing(() => ({ error: { desc: 'disabled' } })),
  );
  t.match((await volumeUses(refusing.path, [volume], 2_000)).get(volume), /may use it, because .* refused: disabled/);
});

t.test('a file of the guest is read whole or not at all', async (t) => {
  let content = 'text';
  const { path } = await port(
    t,
    synchronizing((command, { count }) => {
      if (command === 'guest-file-open') return { return: 1 };
      if (command === 'guest-file-read') t.equal(count, 65536);
      return { return: { 'buf-b64': Buffer.from(content).toString('base64') } };
    }),
  );
  const read = () => withGuestAgent(path, 2_000, (session) => readGuestFile(session, '/proc/swaps'));
  t.equal(await read(), 'text');
  content = 'x'.repeat(65_536);
  await t.rejects(read(), { message: /too long/ }, 'a longer one is not read in part');
});

t.test('a guest agent without the commands for disks counts as none', async (t) => {
  const names = ['guest-get-disks', 'guest-get-fsinfo', 'guest-file-open', 'guest-file-read', 'guest-file-close'];
  const all = names.map((name) => ({ name, enabled: true }));
  const cases: readonly [unknown, boolean][] = [
    [{ supported_commands: all }, true],
    [{ supported_commands: all.slice(1) }, false],
    [{ supported_commands: all.map((each) => ({ ...each, enabled: each.name !== 'guest-file-open' })) }, false],
    [{ supported_commands: names }, false],
    [{ supported_commands: { length: 5 } }, false],
    [null, false],
  ];
  for (const [info, expected] of cases) {
    const { path } = await port(
      t,
      synchronizing(() => ({ return: info })),
    );
    t.equal(await tellsUseOfDisks(path, 2_000), expected, JSON.stringify(info));
  }
});
