/**
 * A tap that is opened with IFF_VNET_HDR takes an instruction with each frame: write the checksum of these bytes to that
 * place. The kernel obeys when it gives the frame to a receiver, behind all filters.
 */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { withTaps } from '../../backend/host/hypervisor/qemu/taps.ts';
import { until } from '../support/eventually.ts';
import { ethernet, icmp, ipv6, target, udp, unfinished } from '../support/frames.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { type TapLab, tapLab, uid } from '../support/tap-lab.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'bridge', 'unshare', 'perl');

/** The process of a VM tries to change its tap. The program prints the attempts that the kernel allows. */
const escaping = `
import fcntl, glob, os, struct, sys
uid, tap = int(sys.argv[1]), sys.argv[2]
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
request = lambda name: struct.pack('16sH22x', name.encode(), 0x0002 | 0x1000 | 0x4000)
def attempt(what, action):
    try: action()
    except OSError: return
    print(what)
flags = struct.unpack('16sH22x', fcntl.ioctl(3, 0x800454d2, bytes(40)))[1]
if flags & 0x4000: print('the tap takes instructions')
attempt('opened anew while open', lambda: fcntl.ioctl(3, 0x400454ca, request(tap)))
# The kernel asks for no privilege here.
attempt('given to another user', lambda: fcntl.ioctl(3, 0x400454cc, uid))
attempt('no longer persistent', lambda: fcntl.ioctl(3, 0x400454cb, 0))
os.close(3)
def again(path):
    fcntl.ioctl(os.open(path, os.O_RDWR), 0x400454ca, request(tap))
devices = ['/dev/net/tun'] + [f'/proc/{pid}/root/dev/net/tun' for pid in (1, os.getppid(), os.getpid())]
for path in devices: attempt('opened again by ' + path, lambda: again(path))
for path in glob.glob('/dev/vhost-*'): attempt(path, lambda: fcntl.ioctl(os.open(path, os.O_RDWR), 0xaf01))
print('done')
`;

/** A process of such a user that sees all devices. */
const stranger = `
import fcntl, os, struct, sys
uid, tap = int(sys.argv[1]), sys.argv[2]
# On some machines only root may open the device. The tap itself must refuse, too.
device = os.open('/dev/net/tun', os.O_RDWR)
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
try: fcntl.ioctl(device, 0x400454ca, struct.pack('16sH22x', tap.encode(), 0x5002))
except OSError as error: print(error.strerror)
else: print('opened')
`;

/** Frames that a guest may send, what is to be written into them, and where. */
function rewrites({ a, b, c, router }: TapLab) {
  const frame = (to: string, next: number, payload: Buffer, source: string, destination: string) =>
    ethernet(
      a.mac,
      to,
      0x86dd,
      ipv6({ source, destination, next, payload: Buffer.concat([payload, Buffer.alloc(32)]) }),
    );
  const own = Number.parseInt(a.address.split(':').at(-1) ?? '', 16);
  return [
    [
      'an echo request becomes a router advertisement',
      frame('33:33:00:00:00:01', 58, icmp(128), a.linkLocal, 'ff02::1'),
      54,
      0x8600,
    ],
    ['an echo request becomes a redirect', frame(b.mac, 58, icmp(128), a.linkLocal, b.linkLocal), 54, 0x8900],
    ['the source becomes that of another', frame(b.mac, 17, udp(7, 7), a.address, b.address), 36, own + 2],
    [
      'a claim is for the address of another',
      frame(b.mac, 58, icmp(136, target(a.address)), a.address, b.address),
      76,
      own + 2,
    ],
    ['the source becomes that of another network', frame(router, 17, udp(7, 7), a.address, c.address), 28, 9],
  ] as const;
}

t.test('instructions of a guest to the kernel', { skip }, async (t) => {
  const lab = await tapLab(t, 'instruct');
  t.strictSame(await lab.converge(), []);
  const [b, c] = [await lab.open(t, lab.b), await lab.open(t, lab.c)];
  const attacks = rewrites(lab).map(([what, frame, start, value]) => ({ what, ...unfinished(frame, start, value) }));
  /** Without the addresses of Ethernet and the hop limit, which a router changes. */
  const core = (frame: Buffer | string) => {
    const hex = frame.toString('hex');
    return `${hex.slice(24, 42)}${hex.slice(44)}`;
  };
  const arrived = () => new Set([...b.heard, ...c.heard].map((frame) => core(frame)));

  await t.test('a guest cannot have a frame changed once the filter has seen it', async (t) => {
    const a = await lab.open(t, lab.a);
    await a.send(attacks.flatMap(({ header, sent }) => [Buffer.concat([header, sent]), sent]));
    for (const { what, sent } of attacks)
      await until(`the frame without instructions (${what})`, () => arrived().has(core(sent)));
    for (const { what, made } of attacks) t.notOk(arrived().has(core(made)), what);
    await a.close();
  });

  await t.test('a process that has a tap cannot open it anew', async (t) => {
    const command = withTaps([lab.a.tap], ['python3', '-c', escaping, `${uid}`, lab.a.tap], 3);
    const run = (args: readonly string[]) =>
      execFileSync('ip', ['netns', 'exec', lab.host.namespace.name, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    t.equal(run(command), 'done\n');
    await b.close();
    t.equal(run(['python3', '-c', stranger, `${uid}`, lab.b.tap]), 'Operation not permitted\n', 'nor one of another');
  });

  await t.test('all of it succeeds where a tap takes instructions', async (t) => {
    const [a, receiver] = [await lab.open(t, lab.a, true), await lab.open(t, lab.b)];
    await a.send(attacks.map(({ header, sent }) => Buffer.concat([header, sent])));
    for (const { what, made } of attacks)
      t.ok(await until(what, () => [...receiver.heard, ...c.heard].some((frame) => core(frame) === core(made))), what);
  });
  await lab.driver.kill();
});
