/** A hostile QEMU against the agent that changes its interfaces. */
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import {
  nicOf,
  nicPortOf,
  planInterfaces,
  portsIn,
  setInterfaces,
} from '../../backend/host/hypervisor/qemu/guest-interfaces.ts';
import { passTap } from '../../backend/host/hypervisor/qemu/pass-descriptor.ts';
import { Qmp, QmpError } from '../../backend/host/hypervisor/qemu/qmp.ts';
import type { InterfaceSpec } from '../../backend/host/hypervisor/specs.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { tapOf } from '../../backend/model/network/interface-names.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { temporaryDirectory } from '../support/stores.ts';

const nic = (number: number): InterfaceSpec => ({
  network: {
    id: idFrom('network', `net-${'0'.repeat(16)}`),
    vni: 7,
    cidr: 'fd42:0:0:7::/64',
    mtu: 1430,
    dns_servers: [],
  },
  mac: `02:00:5e:10:00:0${number}`,
  address: `fd42:0:0:7::${number + 2}`,
});

async function serve(t: Test, handle: (socket: Socket) => void): Promise<string> {
  const path = join(temporaryDirectory(t), 'monitor');
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    handle(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => server.close());
  return path;
}

/** A monitor that gives this answer to each question about devices, and accepts every command. */
const monitor = (t: Test, answer: unknown, commands: string[]) =>
  serve(t, (socket) => {
    socket.write('{"QMP": {}}\n');
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const { id, execute } = JSON.parse(line) as { id: number; execute: string };
      commands.push(execute);
      socket.write(`${JSON.stringify({ return: execute === 'qom-list' ? answer : {}, id })}\n`);
    });
  });

t.test('false answers about interfaces end the connection, and open no tap of another VM', async (t) => {
  const ports = portsIn(new Set([nicPortOf(0), nicPortOf(1)]));
  const plan = planInterfaces([], [nic(1)], ports);
  const leaving = planInterfaces(plan, [nic(2)], ports);
  for (const answer of [
    null,
    7,
    {},
    [null, 7, 'x', []],
    [{ name: '__proto__' }, { name: { toString: 1 } }],
    Array.from({ length: 5_000 }, (_, number) => ({ name: nicOf(number) })),
  ]) {
    const commands: string[] = [];
    const qmp = await Qmp.connect(await monitor(t, answer, commands), 5_000);
    const opened: string[] = [];
    const pass = async (tap: string) => {
      opened.push(tap);
    };
    for (const wanted of [plan, leaving]) {
      const outcome = await setInterfaces(qmp, wanted, new Set(), pass).catch((error: unknown) => error);
      const isList = Array.isArray(answer);
      t.equal(outcome instanceof QmpError, !isList, `${JSON.stringify(answer).slice(0, 60)}`);
    }
    const own = new Set([tapOf(nic(1)), tapOf(nic(2))]);
    t.ok(opened.every((tap) => own.has(tap)) && opened.length <= 2, opened.join());
    t.ok(commands.length < 30, `${commands.length} commands`);
    qmp.close();
  }
});

t.test('a monitor that takes taps cannot hold up or fill the agent', { skip: noNamespaces('perl') }, async (t) => {
  const missing = passTap(await monitor(t, [], []), 'no-such-tap', 'net0');
  await t.rejects(missing, /did not take a tap/, 'the agent opens no new tap');
});
