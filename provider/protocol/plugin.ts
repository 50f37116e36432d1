/**
 * How Terraform starts a plugin and talks to it: HashiCorp's go-plugin, version 1 of its core protocol.
 *
 * Terraform starts the provider with a "magic cookie" and its own certificate in the environment. The provider listens
 * on a Unix socket and prints one line that says where, with its certificate. Both sides then speak gRPC over TLS, each
 * accepting exactly the one certificate that it was told of: whoever else can reach the socket gets nowhere.
 * https://github.com/hashicorp/go-plugin/blob/main/docs/internals.md
 *
 * Terraform ends a provider by calling `plugin.GRPCController/Shutdown`. A provider whose Terraform was killed sees its
 * connection close instead and leaves as well.
 */
import { X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import net, { type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TLSSocket } from 'node:tls';
import { createCertificate } from './certificate.ts';
import type { Methods, Session } from './grpc.ts';
import { decode, encode, message, one } from './wire.ts';

/** The variable that every Terraform sets. Without it, a user has started the program by hand, and gets an explanation. */
export const COOKIE_NAME = 'TF_PLUGIN_MAGIC_COOKIE';
export const COOKIE_VALUE = 'd602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2';
const CORE_PROTOCOL = 1;
export const PLUGIN_PROTOCOL = 6;
/** A Unix socket's path must fit `sun_path` of 108 bytes, including the terminating zero. */
const MAX_SOCKET_PATH = 107;
/** Without a connection for this long after the last one closed, Terraform is gone. */
const ORPHANED_AFTER = 10_000; // ms
/** Terraform waits 60 seconds for a plugin to start, so nobody connects later than that. */
const FIRST_CONNECTION_WITHIN = 90_000; // ms

/**
 * TLS takes a fifth of the time that Node itself needs to start, and it is needed only once Terraform has read the
 * handshake and connects: by then it is loaded.
 */
const loadTls = () => import('./mutual-tls.ts');
const loadGrpc = () => import('./grpc.ts');

const HealthRequest = message('HealthCheckRequest', { service: one(1, 'string') });
const HealthResponse = message('HealthCheckResponse', { status: one(1, 'int') });
const SERVING = 1;
const SERVICE_UNKNOWN = 3;

/** The provider's own methods. */
export type ProviderMethods = Pick<Methods, 'unary' | 'more'>;

export interface PluginOptions {
  /** Its methods for one connection: each connection gets a provider of its own, with its own state. */
  connect(): ProviderMethods;
  environment: NodeJS.ProcessEnv;
  /** Told of failed handshakes and broken connections. */
  onError(error: Error): void;
  /** How long to stay, in milliseconds, after the last connection closed without a Shutdown; default 10,000. */
  orphanedAfter?: number;
}

export interface PluginServer {
  /** The line for Terraform, without the line feed. */
  readonly line: string;
  readonly socketPath: string;
  /** Settles when everything is closed and removed. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Services of go-plugin beside the provider's own. `shutdown` is called once the answer is on its way. */
function withPluginServices({ unary, more }: ProviderMethods, shutdown: () => void): Methods {
  return {
    more,
    unary: {
      ...unary,
      '/plugin.GRPCController/Shutdown': async () => {
        setImmediate(shutdown);
        return new Uint8Array();
      },
      '/grpc.health.v1.Health/Check': async (request) => {
        const { service } = decode(HealthRequest, request);
        return encode(HealthResponse, { status: service === 'plugin' || service === '' ? SERVING : SERVICE_UNKNOWN });
      },
    },
    // Output of the plugin and connections back to the host: both optional, and there is neither.
    held: new Set(['/plugin.GRPCStdio/StreamStdio', '/plugin.GRPCBroker/StartStream']),
  };
}

/** A directory that only this user may enter, so that the socket in it is reachable for nobody else. */
function socketDirectory(environment: NodeJS.ProcessEnv): string {
  const candidates = [environment.PLUGIN_UNIX_SOCKET_DIR, tmpdir(), '/tmp'].filter((dir) => dir !== undefined);
  // mkdtemp adds six characters, and the socket's name two.
  const base = candidates.find((dir) => Buffer.byteLength(path.join(dir, 'tfp-XXXXXX', 's')) <= MAX_SOCKET_PATH);
  const directory = mkdtempSync(path.join(base ?? '/tmp', 'tfp-'));
  chmodSync(directory, 0o700);
  return directory;
}

function listen(server: net.Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

/** Listens and accepts Terraform over mutually authenticated TLS, until it says to shut down or is gone. */
export async function servePlugin(options: PluginOptions): Promise<PluginServer> {
  const announced = options.environment.PLUGIN_CLIENT_CERT;
  if (!announced) throw new Error('PLUGIN_CLIENT_CERT is not set: only connections with mutual TLS are accepted');
  const clientCertificate = new X509Certificate(announced).raw;
  const own = createCertificate();
  const directory = socketDirectory(options.environment);
  const socketPath = path.join(directory, 's');
  const sessions = new Set<Session>();
  const sockets = new Set<Socket>();
  const finished = Promise.withResolvers<void>();
  let closing = false;
  let orphaned = setTimeout(() => close(), FIRST_CONNECTION_WITHIN);

  const secured = () =>
    loadTls().then(({ mutualTls }) =>
      mutualTls({
        own,
        client: clientCertificate,
        onError: options.onError,
        onSocket: (socket) => {
          clearTimeout(orphaned);
          accept(socket).catch((error: Error) => {
            options.onError(error);
            socket.destroy();
          });
        },
      }),
    );
  let securing: ReturnType<typeof secured> | undefined;

  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // Until TLS has it, nobody else hears that it broke.
    socket.on('error', options.onError);
    securing ??= secured();
    securing.then(
      (secure) => {
        socket.off('error', options.onError);
        secure(socket);
      },
      (error: Error) => socket.destroy(error),
    );
  });

  async function accept(socket: TLSSocket): Promise<void> {
    const { serveSession } = await loadGrpc();
    if (closing || socket.destroyed) {
      socket.destroy();
      return;
    }
    const session = serveSession(socket, withPluginServices(options.connect(), close), options);
    sessions.add(session);
    void session.ended.then(() => {
      sessions.delete(session);
      if (sessions.size > 0 || closing) return;
      clearTimeout(orphaned);
      orphaned = setTimeout(close, options.orphanedAfter ?? ORPHANED_AFTER);
    });
  }

  /** Ends when running calls are answered. Terraform keeps its side open until the process ends, so nobody waits for it. */
  function close(): void {
    if (closing) return;
    closing = true;
    clearTimeout(orphaned);
    server.close();
    const ended = [...sessions].map((session) => session.ended);
    for (const session of sessions) session.close();
    void Promise.all(ended).then(() => {
      for (const socket of sockets) socket.destroy();
      rmSync(directory, { recursive: true, force: true });
      finished.resolve();
    });
  }

  try {
    await listen(server, socketPath);
  } catch (error) {
    clearTimeout(orphaned);
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  setImmediate(() => {
    securing ??= secured();
    void loadGrpc();
  });
  const certificate = own.der.toString('base64').replace(/=+$/, '');
  const multiplexed = options.environment.PLUGIN_MULTIPLEX_GRPC ? '|false' : '';
  return {
    line: `${CORE_PROTOCOL}|${PLUGIN_PROTOCOL}|unix|${socketPath}|grpc|${certificate}${multiplexed}`,
    socketPath,
    closed: finished.promise,
    close,
  };
}

export interface ReattachServer {
  readonly socketPath: string;
  close(): Promise<void>;
}

/**
 * Serves Terraforms that are told where the provider runs (`TF_REATTACH_PROVIDERS`), one after another or at once,
 * without TLS: for debuggers and tests. The socket's directory keeps other users out.
 */
export async function serveReattached(options: PluginOptions): Promise<ReattachServer> {
  const directory = socketDirectory(options.environment);
  const socketPath = path.join(directory, 's');
  const { serveSession } = await loadGrpc();
  const sessions = new Set<Session>();
  const sockets = new Set<Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // Each Terraform calls Shutdown when it is done; the server stays for the next one.
    const session = serveSession(
      socket,
      withPluginServices(options.connect(), () => session.close()),
      options,
    );
    sessions.add(session);
    void session.ended.then(() => sessions.delete(session));
  });
  await listen(server, socketPath);
  return {
    socketPath,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      for (const socket of sockets) socket.destroy();
      await closed;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
