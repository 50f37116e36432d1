/** A UDP service of a host: the target of an attack. */
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { until } from './eventually.ts';
import type { NetNamespace } from './net-namespace.ts';

/** Answers every datagram to the port, by IPv6 and IPv4. The result grows by a line for each: `<address> <text>`. */
export async function echoServer(t: Test, namespace: NetNamespace, port: number): Promise<string[]> {
  const program = `
import socket, threading
lock = threading.Lock()
def say(text):
    with lock: print(text, flush=True)
def serve(family, any):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((any, ${port}))
    say('ready')
    while True:
        data, sender = s.recvfrom(2048)
        say(sender[0] + ' ' + data.decode('latin1'))
        try: s.sendto(data, sender)
        except OSError: pass # There may be no way to a forged sender.
for each in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')): threading.Thread(target=serve, args=each).start()
`;
  const child = namespace.spawn('python3', ['-c', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  if (!child.stdout) throw new Error('no output');
  const heard: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => heard.push(line));
  await until('the server listens', () => heard.filter((line) => line === 'ready').length === 2);
  heard.length = 0;
  return heard;
}

/** Resolves when the service has received all earlier datagrams: the host sends it one more, `last`. */
export async function heardAll(heard: string[], namespace: NetNamespace, port: number, last: string): Promise<void> {
  const send = `import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'${last}', ('::1', ${port}))`;
  namespace.run('python3', '-c', send);
  await until('the last datagram', () => heard.includes(`::1 ${last}`));
}
