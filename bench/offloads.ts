/**
 * The cost of the offloads that guests do not get (docs/adr/0015). Compares TCP between a guest and its host over a tap of the
 * agent with TCP over a tap with virtio headers, in one run: `node bench/offloads.ts [--megabytes 100] [--rounds 3]`.
 *
 * The guest is emulated, and so are its segmentation and its checksums. So the ratio is worse than under KVM.
 */
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import type { Test } from 'tap';
import { until } from '../test/support/eventually.ts';
import { type RealGuest, realGuest } from '../test/support/real-guest.ts';
import { type TapLab, tapLab } from '../test/support/tap-lab.ts';
import { printTable, ratio } from './support/table.ts';
import { withEnd } from './support/with-end.ts';

const { values } = parseArgs({
  options: { megabytes: { type: 'string', default: '100' }, rounds: { type: 'string', default: '3' } },
});
const megabytes = Number(values.megabytes);
const port = 5000;

/** Connects to the guest and sends the given number of bytes; with 0, it reads. Prints the seconds and the bytes read. */
const client = `
import socket, sys, time
address, size = sys.argv[1], int(sys.argv[2])
s = socket.create_connection((address, ${port}), 60)
start = time.monotonic()
block = bytes(65536)
for _ in range(size // 65536): s.sendall(block)
if size > 0: s.shutdown(socket.SHUT_WR)
received = 0
while data := s.recv(1 << 20): received += len(data)
print(time.monotonic() - start, received)
`;

/** Returns the rate in MiB per second. The guest's server ends with its connection. */
async function rate(lab: TapLab, guest: RealGuest, dd: string, sent: number): Promise<number> {
  const served = guest.run(`nc -l -p ${port} -e dd bs=64k ${dd}`);
  await until('the server of the guest listens', async () => (await guest.run('netstat -ltn')).includes(`:${port} `));
  const child = lab.host.namespace.spawn('python3', ['-c', client, lab.a.address, `${sent}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout?.on('data', (text) => {
    output += text;
  });
  await once(child, 'close');
  await served;
  const [seconds, received] = output.split(' ').map(Number);
  if (received !== megabytes * 2 ** 20 - sent) throw new Error(`${received} bytes came from the guest`);
  return megabytes / (seconds ?? 0);
}

interface Rates {
  readonly fromGuest: number;
  readonly toGuest: number;
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

async function measure(t: Test, offloads: boolean): Promise<Rates> {
  const lab = await tapLab(t, 'offloads');
  await lab.converge();
  const guest = await realGuest(t, lab, lab.a, { offloads });
  if ((await guest.hasFeature(0)) !== offloads) throw new Error('the device of the guest has other features');
  const fromGuest: number[] = [];
  const toGuest: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    fromGuest.push(await rate(lab, guest, `if=/dev/zero count=${megabytes * 16}`, 0));
    toGuest.push(await rate(lab, guest, 'of=/dev/null', megabytes * 2 ** 20));
  }
  await lab.driver.kill();
  return { fromGuest: median(fromGuest), toGuest: median(toGuest) };
}

const without = await withEnd((t) => measure(t, false));
const withThem = await withEnd((t) => measure(t, true));
const row = (name: string, a: number, b: number) => [name, a.toFixed(1), b.toFixed(1), ratio(a, b)];
printTable(
  ['TCP', 'without offloads, MiB/s', 'with offloads, MiB/s', 'without / with'],
  [
    row('guest to host', without.fromGuest, withThem.fromGuest),
    row('host to guest', without.toGuest, withThem.toGuest),
  ],
);
