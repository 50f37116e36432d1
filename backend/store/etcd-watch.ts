/**
 * A watch on etcd, with its own stream, for as long as the caller reads it. The watch replaces a broken stream and
 * continues after the last delivered commit, so it delivers every commit exactly once.
 *
 * etcd 3.4 lets a watch begin at the revision that the history is compacted to, although the deletions of that revision
 * are gone. Therefore the watch asks for one revision more than it needs, and drops it. The server then rejects a watch
 * whose first revision is compacted, as CompactedError requires.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { IEvent, IWatchResponse } from 'etcd3';
import type { EtcdConnection } from './etcd-connection.ts';
import { type Batch, type Change, CompactedError, type Entry, type Revision } from './store.ts';

interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: string;
  readonly create_revision: string;
}

/** Converts a key-value pair of etcd into an entry. */
export const entryOf = (kv: KeyValue, keyPrefix: string): Entry => ({
  key: kv.key.toString('latin1').slice(keyPrefix.length),
  value: kv.value.toString('utf8'),
  revision: Number(kv.mod_revision),
  created: Number(kv.create_revision),
});

/** Converts an event of etcd into a change. */
export const changeOf = (event: IEvent, keyPrefix: string): Change => {
  const entry = entryOf(event.kv, keyPrefix);
  // proto-loader returns the names of enum values, although their type declaration says numbers.
  return String(event.type) === 'Delete' ? { type: 'delete', key: entry.key } : { type: 'put', entry };
};

/**
 * Groups the events of a response by commit. etcd splits responses only between revisions, unless it marks them as
 * fragments.
 */
function batchesOf(events: readonly IEvent[], from: Revision, keyPrefix: string): Batch[] {
  const batches: { revision: Revision; changes: Change[] }[] = [];
  for (const event of events) {
    const revision = Number(event.kv.mod_revision);
    if (revision < from) continue;
    const last = batches.at(-1);
    if (last?.revision === revision) last.changes.push(changeOf(event, keyPrefix));
    else batches.push({ revision, changes: [changeOf(event, keyPrefix)] });
  }
  return batches;
}

interface Range {
  readonly key: Buffer;
  readonly range_end: Buffer;
}

/** Yields the responses of one stream. Ends or throws together with the stream. */
async function* responses(
  connection: EtcdConnection,
  range: Range,
  startRevision: Revision,
  signal: AbortSignal,
): AsyncGenerator<IWatchResponse, void> {
  const stream = await connection.client.watchClient.watch();
  // `end` comes before `cancel`: etcd3 counts the failure of a writable stream as a failure of the whole member.
  const stop = (): void => {
    stream.end();
    stream.cancel();
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    if (signal.aborted) return;
    stream.write({ create_request: { ...range, start_revision: startRevision } });
    // A stream of grpc-js is a Duplex of Node, although its declaration in etcd3 does not say so.
    for await (const response of stream as unknown as AsyncIterable<IWatchResponse>) yield response;
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

/**
 * Watches a key range from a revision on.
 * @throws CompactedError if the history of `fromRevision` is compacted
 */
export async function* watchEtcd(
  connection: EtcdConnection,
  range: Range,
  keyPrefix: string,
  fromRevision: Revision,
  signal: AbortSignal,
): AsyncGenerator<Batch, void> {
  // Revision 1 is the empty database.
  let next = Math.max(2, fromRevision);
  let retryDelayMs = 50;
  let failures = 0;
  while (!signal.aborted) {
    try {
      let fragments: IEvent[] = [];
      for await (const response of responses(connection, range, next - 1, signal)) {
        if (Number(response.compact_revision) > 0) throw new CompactedError(Number(response.compact_revision));
        if (response.canceled)
          throw new Error(`etcd cancelled the watch: ${response.cancel_reason || 'no reason given'}`);
        if (signal.aborted) return;
        connection.reportRecovery();
        retryDelayMs = 50;
        failures = 0;
        fragments = fragments.concat(response.events);
        if (response.fragment) continue;
        for (const batch of batchesOf(fragments, next, keyPrefix)) {
          next = batch.revision + 1;
          yield batch;
          if (signal.aborted) return;
        }
        fragments = [];
      }
      if (signal.aborted) return;
      throw new Error('etcd ended the watch');
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof CompactedError) throw error;
      // Failing calls report an outage of etcd. This warning covers a watch that fails while other calls succeed.
      failures += 1;
      if (failures === 5)
        connection.logger?.warn(
          { err: error, fromRevision: next },
          'a watch on etcd fails repeatedly; the watch retries',
        );
      await delay(retryDelayMs, undefined, { signal }).catch(() => undefined);
      retryDelayMs = Math.min(1000, retryDelayMs * 2);
      // The read renews an expired token. It also waits for the server, so that the loop does not open a new stream at
      // each try.
      if (!signal.aborted)
        await connection
          .read((options) => connection.client.kv.range({ ...range, limit: 1, keys_only: true }, options))
          .catch(() => undefined);
    }
  }
}
