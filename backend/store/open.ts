/** Opens a store by its address. */
import { readFile } from 'node:fs/promises';
import { UcloudError } from '../contract/errors.ts';
import { openEmbeddedStore } from './embedded.ts';
import type { EtcdOptions } from './etcd-connection.ts';
import type { StoreLogger } from './logger.ts';
import type { Store } from './store.ts';

/** Options of `openStore`. */
export interface OpenStoreOptions {
  readonly logger?: StoreLogger;
  /** The maximum time of one call to etcd. */
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
  if (scheme === undefined) throw invalid(url, 'the form is etcd://[user:password@]host:port[,host:port][/prefix]');
  const endpoints = hosts.split(',');
  for (const endpoint of endpoints)
    if (!endpointForm.test(endpoint)) throw invalid(url, `${endpoint} is not host:port or [address]:port`);
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys())
    if (!['ca', 'cert', 'key'].includes(name)) throw invalid(url, `unknown parameter ${name}; known are ca, cert, key`);
  if (scheme === 'etcd' && parameters.size > 0) throw invalid(url, 'only etcds:// takes ca, cert and key');
  if (parameters.has('cert') !== parameters.has('key')) throw invalid(url, 'cert and key must be given together');
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
 * Opens the store with this address:
 * - `embedded:<path>`, or the path alone: the embedded store in this file. `embedded::memory:` is a store in memory,
 *   which ends with the process.
 * - `etcd://[<user>:<password>@]<host>:<port>[,<host>:<port>…][/<key prefix>]`. User and password are percent-encoded;
 *   IPv6 addresses are in brackets.
 * - `etcds://…[?ca=<file>[&cert=<file>&key=<file>]]`: the same over TLS, with PEM files.
 *
 * @throws UcloudError `invalid_input` if the address has none of these forms
 * @throws UcloudError `store_unavailable` if the store cannot be opened
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<Store> {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(url)?.[1];
  if (scheme === 'embedded' && url !== 'embedded:') return openEmbeddedStore({ path: url.slice('embedded:'.length) });
  if (scheme === 'etcd' || scheme === 'etcds') {
    const address = await parseEtcdAddress(url);
    // The etcd client takes 100 ms to load, which the embedded store does not need.
    const { openEtcdStore } = await import('./etcd.ts');
    return openEtcdStore({ ...address, ...options });
  }
  if (scheme === undefined && url !== '') return openEmbeddedStore({ path: url });
  throw invalid(url, 'the known forms are embedded:<path>, a path, etcd://host:port and etcds://host:port');
}
