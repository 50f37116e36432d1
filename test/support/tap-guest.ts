/**
 * A guest without a VM: a process of the VM's user that gets its tap like QEMU, and sends and receives frames. It has the
 * abilities of a QEMU under the control of its guest.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { withTaps } from '../../backend/host/hypervisor/qemu/taps.ts';
import { until } from './eventually.ts';
import type { NetNamespace } from './net-namespace.ts';

/** Sends frames in the given order. The answer to a line `sync <n>` follows when the kernel has all frames before it. */
const program = `
import fcntl, os, struct, sys, threading
lock = threading.Lock()
def say(text):
    with lock: print(text, flush=True)
name, uid, instructed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'true'
tap = 3
if instructed:
    tap = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x0002 | 0x1000 | 0x4000))
# This comes after the start, because only root may be able to start the interpreter.
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
def hear():
    while True: say(os.read(tap, 70000)[10 if instructed else 0:].hex())
threading.Thread(target=hear, daemon=True).start()
say('ready')
for line in sys.stdin:
    word = line.strip()
    if word.startswith('sync'): say(word)
    elif word.startswith('mac '):
        # SIOCSIFHWADDR, with ARPHRD_ETHER.
        try: fcntl.ioctl(tap, 0x8924, struct.pack('16sH6s16x', name.encode(), 1, bytes.fromhex(word[4:])))
        except OSError as error: say('refused ' + error.strerror)
    else:
        try: os.write(tap, bytes.fromhex(word))
        except OSError as error: say('refused ' + error.strerror)
`;

export class TapGuest {
  /** The received frames as hexadecimal digits. */
  readonly heard: string[] = [];
  /** The frames and changes of the tap that the kernel refused. */
  readonly refused: string[] = [];
  readonly #child: ChildProcess;
  readonly #synced = new Set<string>();
  #syncs = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Opens the tap until the end of the test. `instructed`: each sent frame follows a virtio header (1.2, 5.1.6). */
  static async open(t: Test, namespace: NetNamespace, tap: string, uid: number, instructed = false): Promise<TapGuest> {
    const guestProgram = ['python3', '-c', program, tap, `${uid}`, `${instructed}`];
    const [name = '', ...args] = instructed ? guestProgram : withTaps([tap], guestProgram, 3);
    const child = namespace.spawn(name, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const guest = new TapGuest(child);
    t.teardown(() => child.kill('SIGKILL'));
    if (!child.stdout) throw new Error('no output');
    const lines = createInterface({ input: child.stdout });
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the tap ${tap} cannot be opened (exit code ${code})`)));
      lines.on('line', (line) => {
        if (line === 'ready') resolve();
        else if (line.startsWith('sync')) guest.#synced.add(line);
        else if (line.startsWith('refused')) guest.refused.push(line);
        else guest.heard.push(line);
      });
    });
    return guest;
  }

  /** Sends frames, and resolves when the kernel has processed all of them, which it does during the write. */
  async send(frames: Iterable<Buffer>): Promise<void> {
    for (const frame of frames) this.#child.stdin?.write(`${frame.toString('hex')}\n`);
    const sync = `sync ${++this.#syncs}`;
    this.#child.stdin?.write(`${sync}\n`);
    await until('the frames are sent', () => this.#synced.has(sync));
  }

  /** Sets the MAC address of the tap. Resolves when the kernel has set or refused it. */
  async setMac(mac: string): Promise<void> {
    this.#child.stdin?.write(`mac ${mac.replaceAll(':', '')}\n`);
    await this.send([]);
  }

  /** Returns the frames that were received from that index on. */
  async hears(frame: Buffer, from = 0): Promise<void> {
    await until('the frame arrives', () => this.heard.includes(frame.toString('hex'), from));
  }

  /** Closes the tap. Resolves when another process can open it. */
  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  has(frame: Buffer): boolean {
    return this.heard.includes(frame.toString('hex'));
  }
}
