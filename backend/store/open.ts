/** Opens the store that an address names. */
import { readFile } from 'node:fs/promises';
import { UcloudError } from '../contract/errors.ts';
import { openEmbeddedStore } from './embedded.ts';
import type { EtcdOptions } from './etcd-connection.ts';
import type { StoreLogger } from './logger.ts';
import type { Store } from './store.ts';

export interface OpenStoreOptions {
  readonly logger?: StoreLogger;
  /** etcd only. */
  readonly requestTimeoutMs?: number;
}

const etcdForm = /^(etcds?):\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^@/?]+)(?:\/([^?]*))?(?:\?(.*))?$/;
const endpointForm = /^(?:\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[A-Za-z0-9.-]+):[0-9]{1,5}$/;

const invalid = (url: string, rule: string): UcloudError =>
  new UcloudError('invalid_input', `store address ${url.replace(/\/\/[^@/]*@/, '//…@')}: ${rule}`);

async function readPem(url: string, name: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw invalid(url, `cannot read ${name} file ${path}: ${error instanceof Error ? error.message : error}`);
  }
}

async function parseEtcdAddress(url: string): Promise<EtcdOptions> {
  const [, scheme, user, password, hosts = '', path = '', query = ''] = etcdForm.exec(url) ?? [];
  if (scheme === undefined)
    throw invalid(url, 'it is not of the form etcd://[user:password@]host:port[,host:port][/prefix]');
  const endpoints = hosts.split(',');
  for (const endpoint of endpoints)
    if (!endpointForm.test(endpoint)) throw invalid(url, `${endpoint} is not host:port or [address]:port`);
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys())
    if (!['ca', 'cert', 'key'].includes(name)) throw invalid(url, `unknown parameter ${name}; known are ca, cert, key`);
  if (scheme === 'etcd' && parameters.size > 0) throw invalid(url, 'ca, cert and key are for etcds://');
  if (parameters.has('cert') !== parameters.has('key')) throw invalid(url, 'cert and key go together');
  const tls: { ca?: Buffer; cert?: Buffer; key?: Buffer } = {};
  for (const name of ['ca', 'cert', 'key'] as const) {
    const file = parameters.get(name);
    if (file !== null) tls[name] = await readPem(url, name, file);
  }
  return {
    endpoints,
    ...(path === '' ? {} : { keyPrefix: path.endsWith('/') ? path : `${path}/` }),
    ...(scheme === 'etcds' ? { tls } : {}),
    ...(user === undefined ? {} : { username: decodeURIComponent(user), password: decodeURIComponent(password ?? '') }),
  };
}

/**
 * Addresses:
 * - `embedded:<path>`, or the path alone: the embedded store in that file; `embedded::memory:` for one that is lost at
 *   the end.
 * - `etcd://[<user>:<password>@]<host>:<port>[,<host>:<port>…][/<key prefix>]`; user and password percent-encoded, IPv6
 *   addresses in brackets.
 * - `etcds://…[?ca=<file>[&cert=<file>&key=<file>]]`: the same over TLS, with PEM files.
 *
 * Rejects with invalid_input if the address is of no known form, with store_unavailable if it cannot be opened.
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<Store> {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(url)?.[1];
  if (scheme === 'embedded' && url !== 'embedded:') return openEmbeddedStore({ path: url.slice('embedded:'.length) });
  if (scheme === 'etcd' || scheme === 'etcds') {
    const address = await parseEtcdAddress(url);
    // Its client takes a tenth of a second to load, which the embedded store need not wait for.
    const { openEtcdStore } = await import('./etcd.ts');
    return openEtcdStore({ ...address, ...options });
  }
  if (scheme === undefined && url !== '') return openEmbeddedStore({ path: url });
  throw invalid(url, 'it is not embedded:<path>, a path, etcd://host:port or etcds://host:port');
}
