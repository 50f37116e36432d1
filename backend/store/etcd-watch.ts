/**
 * One watch on etcd, on a stream of its own, as long as it is read: broken streams are replaced and resumed after the
 * last commit delivered, so nothing is lost and nothing comes twice.
 *
 * etcd (3.4) lets a watch begin at the very revision that history was compacted to, although deletions of that revision
 * are gone. So the watch asks for one revision more than it needs and drops it: then compaction up to the revision
 * wanted, or later, makes the server refuse, which is what CompactedError promises.
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

export const entryOf = (kv: KeyValue, keyPrefix: string): Entry => ({
  key: kv.key.toString('latin1').slice(keyPrefix.length),
  value: kv.value.toString('utf8'),
  revision: Number(kv.mod_revision),
  created: Number(kv.create_revision),
});

const changeOf = (event: IEvent, keyPrefix: string): Change => {
  const entry = entryOf(event.kv, keyPrefix);
  // proto-loader gives the names of enum values, whatever their declaration says.
  return String(event.type) === 'Delete' ? { type: 'delete', key: entry.key } : { type: 'put', entry };
};

/** The commits of a response, each whole: etcd cuts responses between revisions, unless it marks them as fragments. */
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

/** The responses of one stream. Ends, or throws, when the stream does. */
async function* responses(
  connection: EtcdConnection,
  range: Range,
  startRevision: Revision,
  signal: AbortSignal,
): AsyncGenerator<IWatchResponse, void> {
  const stream = await connection.client.watchClient.watch();
  // Ended before it is cancelled: etcd3 counts the failure of a stream that can be written to against the whole member.
  const stop = (): void => {
    stream.end();
    stream.cancel();
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    if (signal.aborted) return;
    stream.write({ create_request: { ...range, start_revision: startRevision } });
    // A stream of grpc-js is a Duplex of Node, which its declaration in etcd3 does not say.
    for await (const response of stream as unknown as AsyncIterable<IWatchResponse>) yield response;
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

export async function* watchEtcd(
  connection: EtcdConnection,
  range: Range,
  keyPrefix: string,
  fromRevision: Revision,
  signal: AbortSignal,
): AsyncGenerator<Batch, void> {
  // Revision 1 is the empty database.
  let next = Math.max(2, fromRevision);
  let wait = 50;
  let failures = 0;
  while (!signal.aborted) {
    try {
      let fragments: IEvent[] = [];
      for await (const response of responses(connection, range, next - 1, signal)) {
        if (Number(response.compact_revision) > 0) throw new CompactedError(Number(response.compact_revision));
        if (response.canceled)
          throw new Error(`etcd cancelled the watch: ${response.cancel_reason || 'no reason given'}`);
        if (signal.aborted) return;
        connection.cameBack();
        wait = 50;
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
      // That etcd is away is told by the calls that find it so; a watch that alone cannot go on would go unnoticed.
      failures += 1;
      if (failures === 5)
        connection.logger?.warn({ err: error, fromRevision: next }, 'a watch on etcd keeps failing, trying on');
      await delay(wait, undefined, { signal }).catch(() => undefined);
      wait = Math.min(1000, wait * 2);
      // Renews the token, if that was the reason, and waits for the server without a new stream at each try.
      if (!signal.aborted)
        await connection
          .read((options) => connection.client.kv.range({ ...range, limit: 1, keys_only: true }, options))
          .catch(() => undefined);
    }
  }
}
