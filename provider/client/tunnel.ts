/** A connection through a proxy (CONNECT, RFC 9110, section 9.3.6). */
import type { Socket } from 'node:net';
import { defaultSecureContext } from './authorities.ts';
import { ProxyRefusal, Timeout } from './connection-failure.ts';
import { type ProxySetting, proxyAuthorization } from './proxy.gen.ts';

/**
 * Returns the address of a proxy as connection options. They contain the name for the proxy's certificate, because Node
 * would otherwise take the name in the header `host`.
 */
export function connectOptions({ hostname, port, protocol }: URL) {
  const { isIP } = process.getBuiltinModule('node:net');
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return { host, port: port || (protocol === 'https:' ? 443 : 80), servername: isIP(host) ? '' : host };
}

/**
 * Opens a tunnel to the target, which has the form `host:port`.
 * @throws ProxyRefusal if the proxy refuses; Timeout after `timeoutMs`; an error of Node without a connection
 */
export function openTunnel({ url }: ProxySetting, target: string, timeoutMs: number): Promise<Socket> {
  const secure = url.protocol === 'https:';
  const { request } = process.getBuiltinModule(secure ? 'node:https' : 'node:http');
  const authorization = proxyAuthorization(url);
  return new Promise((resolve, reject) => {
    const connectRequest = request({
      method: 'CONNECT',
      ...connectOptions(url),
      path: target,
      agent: false,
      ...(secure && { secureContext: defaultSecureContext() }),
      headers: { host: target, ...(authorization !== undefined && { 'proxy-authorization': authorization }) },
    });
    const timer = setTimeout(() => connectRequest.destroy(new Timeout('CONNECT_TIMEOUT')), timeoutMs);
    const finish = (then: () => void) => {
      clearTimeout(timer);
      then();
    };
    connectRequest.on('error', (error) => finish(() => reject(error)));
    // Node emits this event for every answer to CONNECT.
    connectRequest.on('connect', ({ statusCode = 0 }, socket) => {
      finish(() => {
        if (statusCode >= 200 && statusCode < 300) return resolve(socket);
        socket.destroy();
        reject(new ProxyRefusal(statusCode));
      });
    });
    connectRequest.end();
  });
}
