/** A connection through a proxy (CONNECT, RFC 9110 section 9.3.6). */
import type { Socket } from 'node:net';
import { ProxyRefusal, Timeout } from './connection-failure.ts';
import { type ProxySetting, proxyAuthorization } from './proxy.gen.ts';

/** @throws ProxyRefusal, or what Node says when the proxy cannot be reached; within the time, in milliseconds */
export function openTunnel({ url }: ProxySetting, target: string, within: number): Promise<Socket> {
  const { request } = process.getBuiltinModule(url.protocol === 'https:' ? 'node:https' : 'node:http');
  const authorization = proxyAuthorization(url);
  return new Promise((resolve, reject) => {
    const asked = request({
      method: 'CONNECT',
      host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: url.port || (url.protocol === 'https:' ? 443 : 80),
      path: target,
      agent: false,
      headers: { host: target, ...(authorization !== undefined && { 'proxy-authorization': authorization }) },
    });
    const timer = setTimeout(() => asked.destroy(new Timeout('CONNECT_TIMEOUT')), within);
    const settle = (then: () => void) => {
      clearTimeout(timer);
      then();
    };
    asked.on('error', (error) => settle(() => reject(error)));
    // Node tells of any answer to CONNECT by this event.
    asked.on('connect', ({ statusCode = 0 }, socket) => {
      settle(() => {
        if (statusCode >= 200 && statusCode < 300) return resolve(socket);
        socket.destroy();
        reject(new ProxyRefusal(statusCode));
      });
    });
    asked.end();
  });
}
