/** An API with its own store, and clients for it. Every response is checked against openapi.yaml. */

import type { Test } from 'tap';
import { type Api, type ApiOptions, startApi } from '../../backend/api/start.ts';
import { newStateKeyFile, parseStateKeys } from '../../backend/api/terraform-state/keys.ts';
import { ensureOperatorToken, ensureProject } from '../../backend/api/tokens/first-operator-token.ts';
import type { FieldError } from '../../backend/contract/errors.ts';
import type { Id } from '../../backend/contract/fields.ts';
import type { Logger } from '../../backend/model/component.ts';
import type { Store } from '../../backend/store/store.ts';
import { until } from './eventually.ts';
import { violation } from './openapi.ts';
import { testPublicKey } from './ssh-keys.ts';
import { withStore } from './stores.ts';

export interface Answer<T = Body> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}

/** The fields of bodies that tests read, of all operations. A missing field fails the test that reads it. */
export interface Body {
  readonly id: string;
  readonly name: string;
  readonly project: Id<'project'>;
  readonly labels: Readonly<Record<string, string>>;
  readonly revision: number;
  readonly created_at: string;
  readonly updated_at: string;
  readonly items: readonly Body[];
  readonly hosts: readonly object[];
  readonly rules: readonly object[];
  readonly default_security_groups: readonly string[];
  readonly kind: string;
  readonly connection_filter?: string;
  readonly sessions: readonly object[];
  readonly bgp_sessions: readonly object[];
  readonly next_page_token?: string;
  readonly status: {
    readonly phase: string;
    readonly reason?: string;
    readonly message?: string;
    readonly host?: string;
    readonly ready: boolean;
    readonly guest_agent?: boolean;
    readonly restart_required: boolean;
    readonly pending_changes: readonly string[];
    readonly size?: string;
    readonly vm?: string;
    readonly taken_at?: string;
  };
  readonly secret: string;
  readonly fingerprint: string;
  readonly pool: string;
  readonly prefix: string;
  readonly cidr: string;
  readonly length: number;
  readonly vni: number;
  readonly gateway: string;
  readonly address: string;
  readonly interfaces: readonly {
    readonly network: string;
    readonly mac: string;
    readonly address: string;
    readonly secondary_addresses: readonly string[];
    readonly security_groups: readonly string[];
  }[];
  readonly memory: string;
  readonly disk_size: string;
  readonly size?: string;
  readonly cpus: number;
  readonly description: string;
  readonly ssh_keys: readonly string[];
  readonly volumes: readonly string[];
  readonly volume?: string;
  readonly made_for?: string;
  readonly disks: readonly { readonly volume?: string; readonly pool?: string; readonly size: string }[];
  readonly image: string;
  readonly draining: boolean;
  readonly alive: boolean;
  readonly allocated: { readonly cpus: number; readonly memory: number; readonly disk: number };
  readonly role: string;
  readonly state: string;
  readonly target: string;
  readonly operation: string;
  readonly reason: string;
  readonly message: string;
  readonly token: string;
  /** The fields of problems. */
  readonly code?: string;
  readonly detail?: string;
  readonly errors?: readonly FieldError[];
  readonly request_id?: string;
}

export class ApiClient {
  readonly url: string;
  readonly token: string | undefined;

  constructor(url: string, token: string | undefined) {
    this.url = url;
    this.token = token;
  }

  /** Sends a request. A body is sent as JSON, unless it is text. */
  async request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...(this.token === undefined ? {} : { authorization: `Bearer ${this.token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text.startsWith('{') ? JSON.parse(text) : ({ text } as unknown as Body),
    };
  }

  /** Sends a request. @throws Error if the answer has another status */
  async expect(status: number, method: string, path: string, body?: unknown, headers?: Record<string, string>) {
    const answer = await this.request(method, path, body, headers);
    if (answer.status === status) return answer;
    throw new Error(`${method} ${path}: expected ${status}, got ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  async create(plural: string, body: object): Promise<Body> {
    return (await this.expect(201, 'POST', `/v1/${plural}`, body)).body;
  }

  async get(plural: string, id: string, query = ''): Promise<Body> {
    return (await this.expect(200, 'GET', `/v1/${plural}/${id}${query}`)).body;
  }

  async list(plural: string, query = ''): Promise<Body> {
    return (await this.expect(200, 'GET', `/v1/${plural}${query}`)).body;
  }

  async update(plural: string, id: string, body: object): Promise<Body> {
    return (await this.expect(200, 'PATCH', `/v1/${plural}/${id}`, body)).body;
  }

  /** Deletes and, where deletion takes time, waits until the object is gone. */
  async remove(plural: string, id: string): Promise<void> {
    const answer = await this.request('DELETE', `/v1/${plural}/${id}`);
    if (answer.status === 204 || answer.status === 404) return;
    if (answer.status !== 202) throw new Error(`DELETE ${plural}/${id}: ${JSON.stringify(answer.body)}`);
    await this.gone(plural, id, answer.body.revision);
  }

  async gone(plural: string, id: string, after: number): Promise<void> {
    for (let revision = after; ; ) {
      const answer = await this.request('GET', `/v1/${plural}/${id}?after=${revision}&timeout=30`);
      if (answer.status === 404) return;
      if (answer.status !== 200) throw new Error(`GET ${plural}/${id}: ${JSON.stringify(answer.body)}`);
      revision = answer.body.revision;
    }
  }
}

export interface TestApi {
  readonly url: string;
  readonly api: Api;
  readonly store: Store;
  readonly operatorToken: string;
  readonly operator: ApiClient;
  /** The id of the project `default`. */
  readonly project: Id<'project'>;
  /** Returns a client with a new token of the role in the project. */
  member(project: string, role?: 'member' | 'viewer'): Promise<ApiClient>;
  client(token: string | undefined): ApiClient;
}

export interface TestApiOptions extends Partial<Omit<ApiOptions, 'store' | 'onResponse'>> {
  /** The store. Default: a new embedded store, which ends with the test. */
  readonly store?: Store;
}

/** The logger of the tests: a logged fault fails the test, and expected messages are dropped. */
function loggerFor(faults: string[]): Logger {
  const logger: Logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: (fields, message) => {
      const { err } = fields as { err?: Error };
      faults.push(`${message}: ${err?.stack ?? JSON.stringify(fields)}`);
    },
    child: () => logger,
  };
  return logger;
}

export async function startTestApi(t: Test, options: TestApiOptions = {}): Promise<TestApi> {
  const store = options.store ?? (await withStore(t));
  const faults: string[] = [];
  const operatorToken = (await ensureOperatorToken(store, `test-${process.pid}-${Math.random()}`.replace('.', '')))
    ?.secret;
  if (operatorToken === undefined) throw new Error('the store has an operator token already');
  const project = await ensureProject(store, 'default');
  const api = await startApi({
    listen: { host: '::1', port: 0 },
    rateLimit: { requestsPerMinute: 1_000_000, failuresPerMinute: 1_000_000 },
    logger: loggerFor(faults),
    stateKeys: parseStateKeys(newStateKeyFile()),
    ...options,
    store,
    onResponse(response) {
      const wrong = violation(response);
      if (wrong !== undefined) faults.push(wrong);
    },
  });
  t.teardown(async () => {
    await api.close();
    if (faults.length > 0) throw new Error(`the API broke its contract:\n${faults.slice(0, 10).join('\n')}`);
  });
  const operator = new ApiClient(api.url, operatorToken);
  let tokens = 0;
  return {
    url: api.url,
    api,
    store,
    operatorToken,
    operator,
    project,
    client: (token) => new ApiClient(api.url, token),
    async member(owner, role = 'member') {
      const { secret } = await operator.create('tokens', { name: `${role}-${tokens++}`, project: owner, role });
      return new ApiClient(api.url, secret);
    },
  };
}

export interface VmPrerequisites {
  readonly pool: Body;
  readonly prefix: Body;
  readonly network: Body;
  readonly image: Body;
  readonly sshKey: Body;
}

/** Creates the objects that a VM refers to: a network with its prefix and pool, an image, an SSH key. */
export async function createVmPrerequisites({ operator }: TestApi, project: string): Promise<VmPrerequisites> {
  const number = ((await operator.list('prefix-pools')).items.length + 1).toString(16);
  const pool = await operator.create('prefix-pools', { name: `pool-${number}`, cidr: `2001:db8:${number}::/48` });
  const prefix = await operator.create('prefixes', { name: 'shared', project, pool: pool.id });
  const network = await operator.create('networks', { name: 'shared', project, prefix: prefix.id });
  const image = await operator.create('images', { name: 'shared', project, source: 'file:shared.qcow2' });
  const sshKey = await operator.create('ssh-keys', { name: 'shared', project, public_key: testPublicKey });
  return { pool, prefix, network, image, sshKey };
}

/** Returns the content of the store without audit records, events, and the history of orders. */
export async function contentOf(store: Store): Promise<Map<string, string>> {
  const content = new Map<string, string>();
  let after: string | undefined;
  for (;;) {
    const page = await store.list('', { limit: 1000, ...(after === undefined ? {} : { after }) });
    for (const { key, value } of page.entries) {
      if (!/^(audit|events|idempotency|ended-orders|usage)\//.test(key)) content.set(key, value);
    }
    after = page.entries.at(-1)?.key;
    if (!page.more) return content;
  }
}

/** Waits until the object has this phase, or the operation this state, and returns it. */
export async function reach(
  client: ApiClient,
  plural: string,
  { id }: { readonly id: string },
  phase: string,
): Promise<Body> {
  let item = await client.get(plural, id);
  await until(`${id} is ${phase}`, async () => {
    item = await client.get(plural, id);
    return (item.status?.phase ?? item.state) === phase;
  });
  return item;
}
