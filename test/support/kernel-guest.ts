/**
 * A guest without a VM, with the network of a real kernel: a namespace whose interface `eth0` is joined to the tap of a host.
 * A process passes the frames, as QEMU does. The guest gets its addresses from router advertisements.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import { until } from './eventually.ts';
import { type NetNamespace, netNamespace } from './net-namespace.ts';

/** The process joins the tap of the host to one in the namespace of the guest. */
const program = `
import ctypes, fcntl, os, struct, sys, threading
def tap(name):
    handle = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(handle, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x0002 | 0x1000))
    return handle
outside = tap(sys.argv[2])
space = os.open('/run/netns/' + sys.argv[1], os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(space, 0x40000000) != 0: sys.exit('setns: ' + os.strerror(ctypes.get_errno()))
inside = tap('eth0')
print('ready', flush=True)
def pump(source, target):
    while True:
        try: os.write(target, os.read(source, 70000))
        except OSError as error:
            # An interface that is down takes no frame.
            if error.errno not in (5, 22, 77): raise
threading.Thread(target=pump, args=(outside, inside), daemon=True).start()
pump(inside, outside)
`;

export interface GuestPort {
  readonly tap: string;
  readonly mac: string;
  /** The address that the guest must form. */
  readonly address: string;
  /**
   * `manual`: nobody sends router advertisements, so the guest gets the address by hand. `mute`: the guest has no address, sends
   * nothing by itself, and answers echo requests to any address. Default: the guest forms its address.
   */
  readonly kind?: 'manual' | 'mute';
}

/** Answers echo requests, without a network of the kernel. The sum of the addresses stays the same. */
const responder = `
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd))
s.bind(('eth0', 0))
print('ready', flush=True)
while True:
    frame = s.recv(65536)
    if frame[20] != 58 or frame[54] != 128: continue
    checksum = struct.unpack('!H', frame[56:58])[0] - 0x0100
    if checksum < 0: checksum += 0xffff
    head = frame[6:12] + frame[0:6] + frame[12:22] + frame[38:54] + frame[22:38]
    s.send(head + bytes([129, 0]) + struct.pack('!H', checksum) + frame[58:])
`;

export class KernelGuest {
  readonly namespace: NetNamespace;
  readonly address: string;

  readonly #child: ChildProcess;

  private constructor(namespace: NetNamespace, address: string, child: ChildProcess) {
    this.namespace = namespace;
    this.address = address;
    this.#child = child;
  }

  /** Starts the guest, and waits for its address and its default route. */
  static async start(t: Test, host: NetNamespace, { tap, mac, address, kind }: GuestPort): Promise<KernelGuest> {
    const namespace = netNamespace(t, 'guest');
    const child = host.spawn('python3', ['-c', program, namespace.name, tap], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the guest at ${tap} ended (exit code ${code})`)));
      child.stdout?.once('data', () => resolve());
    });
    namespace.ip('link', 'set', 'dev', 'eth0', 'address', mac);
    if (kind === 'mute') namespace.run('sysctl', '-q', '-w', 'net.ipv6.conf.eth0.disable_ipv6=1');
    namespace.ip('link', 'set', 'dev', 'eth0', 'up');
    const guest = new KernelGuest(namespace, address, child);
    if (kind === 'manual') {
      namespace.ip('addr', 'add', `${address}/64`, 'dev', 'eth0', 'nodad');
      return guest;
    }
    if (kind === 'mute') {
      const answering = namespace.spawn('python3', ['-c', responder], { stdio: ['ignore', 'pipe', 'inherit'] });
      t.teardown(() => answering.kill('SIGKILL'));
      if (answering.stdout) await once(answering.stdout, 'data');
      return guest;
    }
    await until('the address and the default route of the guest', () => {
      const addresses = namespace.ip('-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'global', '-tentative');
      return addresses.includes(`${address}/64`) && namespace.ip('-6', 'route', 'show', 'default') !== '';
    });
    return guest;
  }

  /** Ends the process that passes the frames, so that nothing holds the tap. */
  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  /** Sends echo requests. Returns the number of answers. */
  ping(address: string, count = 1, ...options: readonly string[]): number {
    const words = ['-6', '-n', '-i', '0.05', '-W', '2', '-c', `${count}`, ...options, address];
    let output: string;
    try {
      output = this.namespace.run('ping', ...words);
    } catch (error) {
      output = String((error as { stdout?: unknown }).stdout ?? '');
    }
    return Number(/(\d+) received/.exec(output)?.[1] ?? 0);
  }
}
