/** A client of the plugin protocol, like Terraform. It calls a provider on its Unix socket. */
import http2, { type ClientHttp2Session } from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import type { Test } from 'tap';
import { type ProviderDefinition, reattach } from '../../provider/framework/index.ts';
import type { Certificate } from '../../provider/protocol/certificate.ts';
import { frame } from '../../provider/protocol/grpc.ts';
import { RPCS, type Rpc } from '../../provider/protocol/messages.ts';
import {
  type Decoded,
  decode,
  type Encodable,
  encode,
  type Fields,
  type MessageType,
} from '../../provider/protocol/wire.ts';

/** A call that ended with a status other than OK. */
export class CallFailed extends Error {
  override readonly name = 'CallFailed';
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Answer<R extends Rpc> = Decoded<(typeof RPCS)[R]['response']>;
export type Question<R extends Rpc> = Encodable<(typeof RPCS)[R]['request']>;

export class PluginClient {
  readonly session: ClientHttp2Session;

  private constructor(session: ClientHttp2Session) {
    this.session = session;
  }

  /** Returns a client of a provider that runs in this process and ends with the test. */
  static async of<Client, Config extends object, Session>(
    t: Test,
    provider: ProviderDefinition<Client, Config, Session>,
  ): Promise<PluginClient> {
    const server = await reattach(provider);
    const client = await PluginClient.connect(server.socketPath);
    t.teardown(async () => {
      client.close();
      await server.close();
    });
    return client;
  }

  /** Connects without TLS, or with TLS if there are certificates of the client and the server. */
  static async connect(socketPath: string, secure?: { own?: Certificate; serverPem: string }): Promise<PluginClient> {
    const socket = secure
      ? tls.connect({
          path: socketPath,
          ca: secure.serverPem,
          servername: 'localhost',
          ALPNProtocols: ['h2'],
          ...(secure.own && { cert: secure.own.pem, key: secure.own.key.export({ type: 'pkcs8', format: 'pem' }) }),
        })
      : net.connect(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once(secure ? 'secureConnect' : 'connect', () => resolve());
      socket.once('error', reject);
    });
    const session = http2.connect('http://localhost', { createConnection: () => socket });
    session.on('error', () => {}); // each call reports it
    return new PluginClient(session);
  }

  /** Sends raw bytes as the body of a call, and returns the message of the answer. @throws CallFailed */
  async raw(path: string, body: Uint8Array, headers: Record<string, string> = {}): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const stream = this.session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...headers,
      });
      const chunks: Buffer[] = [];
      let status: string | undefined;
      let message = '';
      const note = (received: http2.IncomingHttpHeaders) => {
        if (received['grpc-status'] === undefined) return;
        status = String(received['grpc-status']);
        message = decodeURIComponent(String(received['grpc-message'] ?? ''));
      };
      stream.on('response', (received) => {
        note(received);
        if (received[':status'] !== 200) reject(new CallFailed(-1, `HTTP ${received[':status']}`));
      });
      stream.on('trailers', note);
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('close', () => {
        if (status === undefined) reject(new Error('the connection ended before the call'));
        else if (status !== '0') reject(new CallFailed(Number(status), message));
        else resolve(Buffer.concat(chunks).subarray(5));
      });
      stream.end(body);
    });
  }

  async call<R extends Rpc>(rpc: R, request: Question<R>): Promise<Answer<R>> {
    const {
      request: requestType,
      response: responseType,
    }: { request: MessageType<Fields>; response: MessageType<Fields> } = RPCS[rpc];
    const bytes = encode(requestType, request as Encodable<MessageType<Fields>>);
    return decode(responseType, await this.raw(`/tfplugin6.Provider/${rpc}`, frame(bytes))) as Answer<R>;
  }

  close(): void {
    this.session.destroy();
  }
}
