/**
 * The store on etcd 3.4 or later, for production and for several machines. The semantics of store.ts are those of etcd.
 * This driver adds what a client must do to preserve them: see etcd-connection.ts, etcd-watch.ts and etcd-lease.ts.
 * Only ucloud should use the cluster, because revisions count all writes, including those of other programs.
 *
 * The history grows until it is compacted: start etcd with `--auto-compaction-retention`, for example `5m`.
 */
import { EtcdLeaseInvalidError, type ICompare, type IRangeRequest, type IRequestOp } from 'etcd3';
import { UcloudError } from '../contract/errors.ts';
import { EtcdConnection, type EtcdOptions } from './etcd-connection.ts';
import { EtcdLease } from './etcd-lease.ts';
import { hasOrderedProgress, watchEtcdRanges } from './etcd-ranges.ts';
import { entryOf, watchEtcd } from './etcd-watch.ts';
import { checkCommit, checkKey, checkLimit, checkPrefix, checkRevision, checkTtl, prefixEnd } from './limits.ts';
import {
  type Batch,
  type Commit,
  type CommitResult,
  CompactedError,
  type Condition,
  type Entry,
  type Lease,
  LeaseEndedError,
  type ListOptions,
  type Page,
  type RangeListener,
  type RangeWatch,
  type Revision,
  type Store,
  type Write,
} from './store.ts';

export type { EtcdOptions } from './etcd-connection.ts';

const defaultKeyPrefix = 'ucloud/v1/';
/** The maximum number of entries in one answer. The driver reads longer lists in several pages, at one revision. */
const pageSize = 1000;

class EtcdStore implements Store {
  readonly #connection: EtcdConnection;
  readonly #keyPrefix: string;
  readonly #watchesRanges: boolean;

  constructor(connection: EtcdConnection, keyPrefix: string, watchesRanges: boolean) {
    this.#connection = connection;
    this.#keyPrefix = keyPrefix;
    this.#watchesRanges = watchesRanges;
  }

  #key(key: string): Buffer {
    return Buffer.from(this.#keyPrefix + key, 'latin1');
  }

  #range(prefix: string): { key: Buffer; range_end: Buffer } {
    return { key: this.#key(prefix), range_end: Buffer.from(prefixEnd(this.#keyPrefix + prefix), 'latin1') };
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    const { kvs } = await this.#connection.read((options) =>
      this.#connection.client.kv.range({ key: this.#key(key) }, options),
    );
    const [kv] = kvs;
    return kv === undefined ? undefined : entryOf(kv, this.#keyPrefix);
  }

  async #page(prefix: string, limit: number, after: string | undefined, revision: Revision | undefined): Promise<Page> {
    const range = this.#range(prefix);
    const request: IRangeRequest = {
      ...range,
      limit,
      // No key contains \x01, so the bound is the first key after `after`.
      ...(after !== undefined && after >= prefix ? { key: this.#key(`${after}\x01`) } : {}),
      ...(revision === undefined ? {} : { revision }),
    };
    // etcd rejects a range whose end is before its beginning.
    if (Buffer.compare(request.key ?? range.key, range.range_end) >= 0) request.range_end = request.key ?? range.key;
    const { kvs, more, header } = await this.#connection.read((options) =>
      this.#connection.client.kv.range(request, options),
    );
    return {
      entries: kvs.map((kv) => entryOf(kv, this.#keyPrefix)),
      more,
      revision: revision ?? Number(header.revision),
    };
  }

  async list(prefix: string, { limit, after, revision }: ListOptions = {}): Promise<Page> {
    checkPrefix(prefix);
    if (revision !== undefined) checkRevision(revision);
    if (limit !== undefined) checkLimit(limit);
    for (;;) {
      try {
        const first = await this.#page(prefix, Math.min(limit ?? pageSize, pageSize), after, revision);
        const entries = [...first.entries];
        let { more } = first;
        while (more && entries.length < (limit ?? Infinity)) {
          const wanted = Math.min((limit ?? Infinity) - entries.length, pageSize);
          const page = await this.#page(prefix, wanted, entries.at(-1)?.key, first.revision);
          entries.push(...page.entries);
          more = page.more;
        }
        return { entries, more, revision: first.revision };
      } catch (error) {
        // The history was compacted between two pages. Start again at a newer revision, unless the caller asked for
        // this one.
        if (!(error instanceof CompactedError) || revision !== undefined) throw error;
      }
    }
  }

  #compare(condition: Condition): ICompare {
    if ('prefix' in condition)
      return { ...this.#range(condition.prefix), target: 'Create', result: 'Equal', create_revision: 0 };
    const key = this.#key(condition.key);
    if ('revision' in condition) return { key, target: 'Mod', result: 'Equal', mod_revision: condition.revision };
    return { key, target: 'Create', result: condition.exists ? 'Greater' : 'Equal', create_revision: 0 };
  }

  #operation(write: Write): IRequestOp {
    if ('delete' in write) return { request_delete_range: { key: this.#key(write.delete) } };
    if ('deletePrefix' in write) return { request_delete_range: this.#range(write.deletePrefix) };
    return {
      request_put: {
        key: this.#key(write.put),
        value: Buffer.from(write.value, 'utf8'),
        ...(write.lease === undefined ? {} : { lease: write.lease }),
      },
    };
  }

  async commit(commit: Commit): Promise<CommitResult> {
    checkCommit(commit);
    const compare = (commit.require ?? []).map((condition) => this.#compare(condition));
    const success = commit.write.map((write) => this.#operation(write));
    try {
      const { succeeded, header } = await this.#connection.write((options) =>
        this.#connection.client.kv.txn({ compare, success, failure: [] }, options),
      );
      return succeeded ? { ok: true, revision: Number(header.revision) } : { ok: false };
    } catch (error) {
      if (!(error instanceof EtcdLeaseInvalidError)) throw error;
      const leases = commit.write.flatMap((write) =>
        'put' in write && write.lease !== undefined ? [write.lease] : [],
      );
      throw new LeaseEndedError(leases.join(' or '));
    }
  }

  async *watch(prefix: string, fromRevision: Revision, signal?: AbortSignal): AsyncGenerator<Batch, void> {
    checkPrefix(prefix);
    checkRevision(fromRevision);
    this.#connection.assertOpen();
    const { closing } = this.#connection;
    const stop = signal === undefined ? closing : AbortSignal.any([signal, closing]);
    yield* watchEtcd(this.#connection, this.#range(prefix), this.#keyPrefix, fromRevision, stop);
  }

  async watchRanges(listener: RangeListener): Promise<RangeWatch | undefined> {
    // etcd answers about its status without authentication. The read renews an expired token.
    await this.list('', { limit: 1 });
    const { version } = await this.#connection.read((options) => this.#connection.client.maintenance.status(options));
    if (!this.#watchesRanges && !hasOrderedProgress(version)) return undefined;
    const rangeOf = (range: string) => (range.endsWith('/') ? this.#range(range) : { key: this.#key(range) });
    return watchEtcdRanges(this.#connection, rangeOf, this.#keyPrefix, listener);
  }

  async lease(ttl: number): Promise<Lease> {
    checkTtl(ttl);
    let sent = 0;
    const { ID } = await this.#connection.write((options) => {
      sent = performance.now();
      return this.#connection.client.leaseClient.leaseGrant({ TTL: Math.ceil(ttl) }, options);
    });
    return new EtcdLease(this.#connection, ID, ttl, sent);
  }

  async compact(revision: Revision): Promise<void> {
    checkRevision(revision);
    try {
      await this.#connection.read((options) => this.#connection.client.kv.compact({ revision }, options));
    } catch (error) {
      // The history is already compacted to this revision.
      if (!(error instanceof CompactedError)) throw error;
    }
  }

  async close(): Promise<void> {
    this.#connection.close();
  }
}

/**
 * Opens the store.
 * @throws UcloudError `invalid_input` if the options are invalid
 * @throws UcloudError `store_unavailable` if no endpoint answers within `requestTimeoutMs`, or if etcd refuses the
 * credentials
 */
export async function openEtcdStore(options: EtcdOptions): Promise<Store> {
  const keyPrefix = options.keyPrefix ?? defaultKeyPrefix;
  checkKey(keyPrefix);
  if (!keyPrefix.endsWith('/')) throw new UcloudError('invalid_input', `key prefix ${keyPrefix} does not end with /`);
  if (options.endpoints.length === 0) throw new UcloudError('invalid_input', 'the address names no etcd endpoint');
  const connection = new EtcdConnection(options);
  const store = new EtcdStore(connection, keyPrefix, options.watchesRanges ?? false);
  try {
    await store.list('', { limit: 1 });
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}
