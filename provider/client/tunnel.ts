/** A connection through a proxy (CONNECT, RFC 9110 section 9.3.6). */
import type { Socket } from 'node:net';
import { commonTrust } from './authorities.ts';
import { ProxyRefusal, Timeout } from './connection-failure.ts';
import { type ProxySetting, proxyAuthorization } from './proxy.gen.ts';

/** Where a proxy is. Its name is what its certificate has to be for; Node would take the one of the header `host`. */
export function placeOf({ hostname, port, protocol }: URL) {
  const { isIP } = process.getBuiltinModule('node:net');
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return { host, port: port || (protocol === 'https:' ? 443 : 80), servername: isIP(host) ? '' : host };
}

/** @throws ProxyRefusal, or what Node says when the proxy cannot be reached; within the time, in milliseconds */
export function openTunnel({ url }: ProxySetting, target: string, within: number): Promise<Socket> {
  const secure = url.protocol === 'https:';
  const { request } = process.getBuiltinModule(secure ? 'node:https' : 'node:http');
  const authorization = proxyAuthorization(url);
  return new Promise((resolve, reject) => {
    const asked = request({
      method: 'CONNECT',
      ...placeOf(url),
      path: target,
      agent: false,
      ...(secure && { secureContext: commonTrust() }),
      headers: { host: target, ...(authorization !== undefined && { 'proxy-authorization': authorization }) },
    });
    const timer = setTimeout(() => asked.destroy(new Timeout('CONNECT_TIMEOUT')), within);
    const finish = (then: () => void) => {
      clearTimeout(timer);
      then();
    };
    asked.on('error', (error) => finish(() => reject(error)));
    // Node tells of any answer to CONNECT by this event.
    asked.on('connect', ({ statusCode = 0 }, socket) => {
      finish(() => {
        if (statusCode >= 200 && statusCode < 300) return resolve(socket);
        socket.destroy();
        reject(new ProxyRefusal(statusCode));
      });
    });
    asked.end();
  });
}
