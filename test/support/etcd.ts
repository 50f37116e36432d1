/** A real etcd server of the test's own: on free ports of [::1], with its data in a temporary directory. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import type { EtcdOptions } from '../../backend/store/etcd-connection.ts';

export interface EtcdServer {
  /** `[::1]:<port>` */
  readonly endpoint: string;
  /** How a client reaches it: with TLS, its authority; with a password, the user. */
  readonly options: EtcdOptions;
  /** Ends it (SIGTERM) and removes its data. */
  stop(): Promise<void>;
  /** kill -9 */
  kill(): Promise<void>;
  /** Starts it again on the same data and port. */
  restart(): Promise<void>;
  /** SIGSTOP and SIGCONT: it is there and does not answer. */
  pause(): Promise<void>;
  resume(): void;
}

export interface EtcdServerOptions {
  readonly tls?: boolean;
  /** Password of root; authentication is then required. */
  readonly password?: string;
}

const run = promisify(execFile);
const onPath = (name: string): boolean =>
  (process.env.PATH ?? '').split(delimiter).some((directory) => existsSync(join(directory, name)));

export const hasEtcd = onPath('etcd');

/** Options for a test that needs etcd: skipped with a word on machines without it, and a failure where CI is true. */
export function needsEtcd(): { skip?: string } {
  if (hasEtcd) return {};
  if (process.env.CI === 'true') throw new Error('etcd is not installed, and CI=true allows no skipping');
  return { skip: 'etcd is not installed (Debian: apt-get install etcd-server)' };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '::1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** A throw-away authority, and certificates of a server on [::1] and of a client, made by openssl. */
export async function makeCertificates(directory: string): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: directory });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca.pem', '-days', '1', '-subj', '/CN=test');
  for (const name of ['server', 'client']) {
    const extensions = ['-addext', 'subjectAltName=IP:::1,DNS:localhost'];
    await openssl(
      ...['req', ...key, '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', `/CN=${name}`, ...extensions],
    );
    const ca = ['-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '1', '-copy_extensions', 'copy'];
    await openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...ca);
  }
}

/** Ends with the test, if one is given. */
export async function startEtcd(t?: Test, { tls = false, password }: EtcdServerOptions = {}): Promise<EtcdServer> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-etcd-'));
  const [clientPort, peerPort] = [await freePort(), await freePort()];
  const endpoint = `[::1]:${clientPort}`;
  const url = `${tls ? 'https' : 'http'}://${endpoint}`;
  const peer = `http://[::1]:${peerPort}`;
  if (tls) await makeCertificates(directory);
  const file = (name: string): string => join(directory, name);
  const args = [
    ...['--name', 'test', '--data-dir', file('data'), '--listen-client-urls', url, '--advertise-client-urls', url],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`],
    ...(tls
      ? ['--cert-file', file('server.pem'), '--key-file', file('server-key.pem')].concat(
          ...['--client-cert-auth', '--trusted-ca-file', file('ca.pem')],
        )
      : []),
  ];
  const certificates = tls
    ? {
        tls: {
          ca: readFileSync(file('ca.pem')),
          cert: readFileSync(file('client.pem')),
          key: readFileSync(file('client-key.pem')),
        },
      }
    : {};
  const anonymous: EtcdOptions = { endpoints: [endpoint], ...certificates };
  const options: EtcdOptions = password === undefined ? anonymous : { ...anonymous, username: 'root', password };
  let child: ChildProcess;

  const start = async (as: EtcdOptions): Promise<void> => {
    child = spawn('etcd', args, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env.PATH } });
    let log = '';
    child.stderr?.on('data', (text) => {
      log = (log + text).slice(-4000);
    });
    const deadline = Date.now() + 20_000;
    for (;;) {
      try {
        const store = await openEtcdStore({ ...as, requestTimeoutMs: 1000 });
        await store.close();
        return;
      } catch (error) {
        if (child.exitCode !== null || Date.now() > deadline)
          throw new Error(`etcd did not start: ${error instanceof Error ? error.message : error}\n${log}`);
        await delay(50);
      }
    }
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill(signal);
    await exit;
  };
  const server: EtcdServer = {
    endpoint,
    options,
    stop: async () => {
      await end('SIGTERM');
      rmSync(directory, { recursive: true, force: true });
    },
    kill: () => end('SIGKILL'),
    restart: () => start(options),
    pause: async () => {
      child.kill('SIGSTOP');
      // Each thread stops when it next runs.
      const tasks = `/proc/${child.pid}/task`;
      const stopped = () =>
        readdirSync(tasks).every((id) => /\) [Tt] /.test(readFileSync(join(tasks, id, 'stat'), 'utf8')));
      while (!stopped()) await delay(5);
    },
    resume: () => void child.kill('SIGCONT'),
  };
  try {
    await start(anonymous);
    if (password !== undefined) await enableAuthentication(anonymous, endpoint, password, directory);
  } catch (error) {
    await server.stop();
    throw error;
  }
  t?.teardown(() => server.stop());
  return server;
}

async function enableAuthentication(options: EtcdOptions, endpoint: string, password: string, directory: string) {
  const scheme = options.tls === undefined ? 'http' : 'https';
  const certificates =
    options.tls === undefined ? [] : ['--cacert', 'ca.pem', '--cert', 'client.pem', '--key', 'client-key.pem'];
  const etcdctl = (...args: string[]) =>
    run('etcdctl', ['--endpoints', `${scheme}://${endpoint}`, ...certificates, ...args], {
      cwd: directory,
      env: { PATH: process.env.PATH, ETCDCTL_API: '3' },
    });
  await etcdctl('user', 'add', `root:${password}`);
  await etcdctl('user', 'grant-role', 'root', 'root');
  await etcdctl('auth', 'enable');
}
