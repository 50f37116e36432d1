/** A real etcd server for one test, on free ports of [::1], with its data in a temporary directory. */
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
import { eventually } from './eventually.ts';

export interface EtcdServer {
  /** `[::1]:<port>` */
  readonly endpoint: string;
  /** The options of a client: with TLS, the CA; with a password, the user. */
  readonly options: EtcdOptions;
  /** Ends the server (SIGTERM) and removes its data. */
  stop(): Promise<void>;
  /** Kills the server (SIGKILL). */
  kill(): Promise<void>;
  /** Starts the server again with the same data and port. */
  restart(): Promise<void>;
  /** Sends SIGSTOP or SIGCONT. A stopped server keeps its connections and does not answer. */
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

/** Returns the options for a test that needs etcd. Machines without etcd skip the test; with CI=true, it fails. */
export function needsEtcd(): { skip?: string } {
  if (hasEtcd) return {};
  if (process.env.CI === 'true') throw new Error('etcd is not installed, and CI=true allows no skipping');
  return { skip: 'etcd is not installed (Debian: apt-get install etcd-server)' };
}

interface Port {
  readonly number: number;
  release(): Promise<void>;
}

/**
 * Returns a port for a server that needs a fixed port. It is below the kernel's range for clients and port 0, so no other
 * process gets it, not even during a restart of the server. An abstract socket, which ends with the process, reserves the port
 * among tests. If another program listens there, the server fails.
 */
async function claimPort(): Promise<Port> {
  for (;;) {
    const number = 10_000 + Math.floor(Math.random() * 20_000);
    const claim = createServer().unref();
    const claimed = await new Promise<boolean>((resolve, reject) => {
      claim.once('error', (error: NodeJS.ErrnoException) =>
        error.code === 'EADDRINUSE' ? resolve(false) : reject(error),
      );
      claim.listen(`\0ucloud-test-port-${number}`, () => resolve(true));
    });
    if (claimed) return { number, release: () => new Promise((resolve) => claim.close(() => resolve())) };
  }
}

/** Creates a temporary CA, and certificates of a server on [::1] and of a client, with openssl. */
export async function makeCertificates(directory: string, names = 'IP:::1,DNS:localhost'): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: directory });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca.pem', '-days', '1', '-subj', '/CN=test');
  for (const name of ['server', 'client']) {
    const extensions = ['-addext', `subjectAltName=${names}`];
    await openssl(
      ...['req', ...key, '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', `/CN=${name}`, ...extensions],
    );
    const ca = ['-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '1', '-copy_extensions', 'copy'];
    await openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...ca);
  }
}

/** A generous deadline, because a successful start does not wait for it. */
const startSeconds = 120;
/** The maximum number of attempts with other ports. */
const mostPorts = 20;

/** Starts etcd and resolves when it serves. Undefined if another program has one of its ports. */
async function launch(args: readonly string[]): Promise<ChildProcess | undefined> {
  const child = spawn('etcd', args, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env.PATH } });
  let log = '';
  const { promise, resolve, reject } = Promise.withResolvers<ChildProcess | undefined>();
  const failed = (why: string) => reject(new Error(`etcd did not start: ${why}\n${log}`));
  const timer = setTimeout(() => failed(`not within ${startSeconds} s`), startSeconds * 1000);
  child.stderr?.on('data', (text) => {
    log = (log + text).slice(-8000);
    // The log of this process counts, because on a taken port, another server would answer.
    if (log.includes('ready to serve client requests')) resolve(child);
  });
  child.once('error', (error) => failed(error.message));
  // The process has ended, and its output has been read to the end.
  child.once('close', (code) =>
    log.includes('address already in use') ? resolve(undefined) : failed(`it ended with ${code}`),
  );
  try {
    return await promise;
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Starts a server. It ends with the test, if there is one. */
export async function startEtcd(t?: Test, options: EtcdServerOptions = {}): Promise<EtcdServer> {
  for (let attempt = 1; ; attempt++) {
    const ports = [await claimPort(), await claimPort()] as const;
    const server = await startOn(ports, options);
    if (server) {
      t?.teardown(() => server.stop());
      return server;
    }
    if (attempt === mostPorts) throw new Error(`etcd did not start: ${mostPorts} times a port was taken`);
  }
}

async function startOn(
  ports: readonly [Port, Port],
  { tls = false, password }: EtcdServerOptions,
): Promise<EtcdServer | undefined> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-etcd-'));
  const [clientPort, peerPort] = ports;
  const endpoint = `[::1]:${clientPort.number}`;
  const url = `${tls ? 'https' : 'http'}://${endpoint}`;
  const peer = `http://[::1]:${peerPort.number}`;
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
  let child: ChildProcess | undefined;

  /** Starts the process. Returns false if another program has a port. */
  const start = async (as: EtcdOptions): Promise<boolean> => {
    child = await launch(args);
    if (child === undefined) return false;
    const opened = await eventually(() => openEtcdStore({ ...as, requestTimeoutMs: 5000 }), startSeconds * 1000);
    await opened.close();
    return true;
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
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
      rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
      for (const port of ports) await port.release();
    },
    kill: () => end('SIGKILL'),
    restart: async () => {
      if (!(await start(options))) throw new Error(`etcd did not start again: ${endpoint} has been taken meanwhile`);
    },
    pause: async () => {
      child?.kill('SIGSTOP');
      // Each thread stops when it next runs.
      const tasks = `/proc/${child?.pid}/task`;
      const stopped = () =>
        readdirSync(tasks).every((id) => /\) [Tt] /.test(readFileSync(join(tasks, id, 'stat'), 'utf8')));
      while (!stopped()) await delay(5);
    },
    resume: () => void child?.kill('SIGCONT'),
  };
  try {
    if (!(await start(anonymous))) {
      await server.stop();
      return undefined;
    }
    if (password !== undefined) await enableAuthentication(anonymous, endpoint, password, directory);
  } catch (error) {
    await server.stop();
    throw error;
  }
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
