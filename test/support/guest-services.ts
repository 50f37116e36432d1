/** Services in the namespaces of guests, and clients that tell whether they reach them. */
import { once } from 'node:events';
import type { Test } from 'tap';
import type { KernelGuest } from './kernel-guest.ts';

const server = `
import selectors, socket, sys, threading, time
def push(connection):
    try:
        while True:
            connection.sendall(b'tick')
            time.sleep(0.1)
    except OSError: pass
chosen = selectors.DefaultSelector()
for word in sys.argv[1:]:
    kind, port = word.split(':')
    each = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    each.bind(('::', int(port)))
    if kind != 'udp': each.listen(64)
    chosen.register(each, selectors.EVENT_READ, kind)
print('ready', flush=True)
while True:
    for key, _ in chosen.select():
        if key.data == 'push':
            connection, _ = key.fileobj.accept()
            threading.Thread(target=push, args=(connection,), daemon=True).start()
        elif key.data == 'tcp':
            connection, _ = key.fileobj.accept()
            chosen.register(connection, selectors.EVENT_READ, 'connection')
        elif key.data == 'udp':
            data, sender = key.fileobj.recvfrom(65535)
            key.fileobj.sendto(data, sender)
        else:
            try: data = key.fileobj.recv(65535)
            except OSError: data = b''
            if data: key.fileobj.sendall(data)
            else:
                chosen.unregister(key.fileobj)
                key.fileobj.close()
`;

/** Sends a line and waits for its echo. With a flow that stays open, it sends again for each line of its input. */
const client = `
import socket, sys
kind, address, port, size, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
each = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
each.settimeout(seconds)
def echo():
    if kind == 'push':
        # What has arrived before says nothing.
        each.setblocking(False)
        try:
            while each.recv(65535): pass
        except BlockingIOError: pass
        each.settimeout(seconds)
        return each.recv(4) != b''
    each.sendall(b'x' * size)
    left = size
    while left > 0:
        data = each.recv(65535)
        if not data: return False
        left -= len(data)
    return True
def tell():
    try: print('yes' if echo() else 'no', flush=True)
    except OSError as error: print('no', flush=True)
try: each.connect((address, port, 0, int(sys.argv[6]) if len(sys.argv) > 6 else 0))
except OSError:
    print('no', flush=True)
    sys.exit()
tell()
for line in sys.stdin: tell()
`;

/** Starts services that send back what they get, or that send by themselves: `tcp:80`, `udp:53`, `push:90`. */
export async function serve(t: Test, guest: KernelGuest, ...services: readonly string[]): Promise<void> {
  const child = guest.namespace.spawn('python3', ['-c', server, ...services], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  if (child.stdout) await once(child.stdout, 'data');
}

/** A flow that stays open. */
export interface Flow {
  /** Sends once more. Returns whether the answer has come. */
  again(): Promise<boolean>;
}

/** A service at an address. */
export interface Service {
  readonly kind: 'tcp' | 'udp' | 'push';
  readonly address: string;
  readonly port: number;
  readonly bytes?: number;
  /** The time after which there is no answer. */
  readonly seconds?: number;
}

/** Opens a flow to the service. Returns whether it answers, and the flow. */
export async function open(
  t: Test,
  guest: KernelGuest,
  { kind, address, port, bytes = 10, seconds = 1 }: Service,
): Promise<Flow & { readonly answers: boolean }> {
  const scope = address.startsWith('fe80:')
    ? [guest.namespace.ip('-o', 'link', 'show', 'eth0').split(':')[0] ?? '']
    : [];
  const words = ['-c', client, kind, address, `${port}`, `${bytes}`, `${seconds}`, ...scope];
  const child = guest.namespace.spawn('python3', words, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const answer = async () => {
    if (!child.stdout) throw new Error('the client has no output');
    const [text] = (await once(child.stdout, 'data')) as [Buffer];
    return text.toString().trim() === 'yes';
  };
  const answers = await answer();
  return {
    answers,
    async again() {
      const next = answer();
      child.stdin?.write('\n');
      return next;
    },
  };
}

/** Tells whether the service answers. */
export const reaches = async (t: Test, guest: KernelGuest, service: Service): Promise<boolean> =>
  (await open(t, guest, service)).answers;
