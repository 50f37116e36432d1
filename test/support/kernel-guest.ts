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
}

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
  static async start(t: Test, host: NetNamespace, { tap, mac, address }: GuestPort): Promise<KernelGuest> {
    const namespace = netNamespace(t, 'guest');
    const child = host.spawn('python3', ['-c', program, namespace.name, tap], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the guest at ${tap} ended (exit code ${code})`)));
      child.stdout?.once('data', () => resolve());
    });
    namespace.ip('link', 'set', 'dev', 'eth0', 'address', mac);
    namespace.ip('link', 'set', 'dev', 'eth0', 'up');
    const guest = new KernelGuest(namespace, address, child);
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
