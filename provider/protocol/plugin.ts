/**
 * The protocol between Terraform and a plugin: HashiCorp's go-plugin, version 1 of its core protocol.
 *
 * Terraform starts the provider with a "magic cookie" and its own certificate in the environment. The provider listens
 * on a Unix socket and prints one line with the path of the socket and its certificate. Both sides then speak gRPC over TLS.
 * Each accepts only the certificate of the other, so no other process can use the socket.
 * https://github.com/hashicorp/go-plugin/blob/main/docs/internals.md
 *
 * Terraform ends a provider by the call `plugin.GRPCController/Shutdown`. If Terraform was killed, the connection closes
 * without this call, and the provider ends as well.
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
/** The maximum length of a socket's path in bytes: `sun_path` has 108 bytes, including the terminating zero. */
const MAX_SOCKET_PATH = 107;
/** The time without a connection after which the provider assumes that Terraform has ended. */
const ORPHANED_AFTER = 10_000; // ms
/** The maximum time until the first connection: Terraform waits 60 seconds for the start of a plugin. */
const FIRST_CONNECTION_WITHIN = 90_000; // ms

/**
 * Loads TLS. This takes a fifth of the start time of Node, so it happens while Terraform reads the handshake and connects.
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
  /** Returns the methods for one connection. Each connection has its own state. */
  connect(): ProviderMethods;
  environment: NodeJS.ProcessEnv;
  /** Gets the errors of failed handshakes and broken connections. */
  onError(error: Error): void;
  /** The time in milliseconds until the server ends after the last connection closed without Shutdown. Default: 10,000. */
  orphanedAfter?: number;
}

export interface PluginServer {
  /** The line for Terraform's handshake, without the line feed. */
  readonly line: string;
  readonly socketPath: string;
  /** Settles when all connections are closed and the socket is removed. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Adds the services of go-plugin to those of the provider. `shutdown` is called after the answer is sent. */
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
    // The streams for output of the plugin and for connections to Terraform. This provider uses neither.
    held: new Set(['/plugin.GRPCStdio/StreamStdio', '/plugin.GRPCBroker/StartStream']),
  };
}

/** Creates a directory that only this user may enter, so that no other user reaches the socket in it. */
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

/** Serves Terraform over mutual TLS, until Terraform calls Shutdown or has ended. */
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
    // TLS reports the errors of a socket only after its start.
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

  /** Closes the server after the answers to running calls. It does not wait for Terraform to close its connections. */
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
 * Serves any number of Terraform processes that know the address of the provider from `TF_REATTACH_PROVIDERS`, without TLS.
 * It is for debuggers and tests. Other users cannot enter the directory of the socket.
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
    // Each Terraform process calls Shutdown at its end. The server remains for the next one.
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
