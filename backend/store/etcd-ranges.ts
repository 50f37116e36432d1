/**
 * A watch of several ranges on etcd, over one stream. etcd sends the changes of a commit for each range in a message of its own,
 * and nothing tells which message is the last. Therefore this watch asks for the progress of the stream. The answer follows
 * all messages of its revision, and comes only if all ranges have got them.
 *
 * The answer of etcd before 3.4.25 and 3.5.8 comes on a way of its own inside the server, so it may overtake a message. A commit
 * could then appear in two parts. On these versions, the driver watches everything, and drops the rest (range-watch.ts).
 *
 * The watch ends with its stream. It does not continue on another one: the caller reads the ranges again, at one revision.
 */
import type { IWatchResponse } from 'etcd3';
import { UcloudError } from '../contract/errors.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { changeOf } from './etcd-watch.ts';
import type { Change, RangeListener, RangeWatch, Revision } from './store.ts';

interface WireRange {
  readonly key: Buffer;
  readonly range_end?: Buffer;
}

type Stream = Awaited<ReturnType<EtcdConnection['client']['watchClient']['watch']>>;

/** The time in milliseconds after which an expected revision does not come over this stream. */
const maxWaitMs = 5_000;
/** The delay before the next question, while etcd does not answer or is behind. It doubles up to the maximum. */
const ask = { firstMs: 2, maxMs: 200 };
/** After the idle time, a change is asked about at once. Otherwise the pause doubles with each question, up to its maximum. */
const busy = { idleMs: 100, maxPauseMs: 32 };

/** Tells whether an answer of this version of etcd follows all messages of its revision. */
export function hasOrderedProgress(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(/[.-]/).map(Number);
  if (major !== 3) return major > 3;
  return minor > 5 || (minor === 5 && patch >= 8) || (minor === 4 && patch >= 25);
}

class EtcdRangeWatch implements RangeWatch {
  readonly #connection: EtcdConnection;
  readonly #stream: Stream;
  readonly #rangeOf: (range: string) => WireRange;
  readonly #keyPrefix: string;
  readonly #listener: RangeListener;
  readonly #stop = (): void => this.#end();
  #ended = false;
  #nextId = 1;
  /** The number of the watch of each range. */
  readonly #ids = new Map<string, number>();
  readonly #removed = new Set<number>();
  readonly #created = new Map<number, PromiseWithResolvers<Revision>>();
  #fragments: Change[] = [];
  /** The revision of the last message with changes. */
  #told: Revision = 0;
  #reached: Revision = 0;
  #expected: Revision = 0;
  /** The time since which an expected revision has not come. */
  #waitsSince: number | undefined;
  /** Changes have come since the last complete answer. */
  #isDirty = false;
  #asking = false;
  #timer: NodeJS.Timeout | undefined;
  #delayMs = ask.firstMs;
  /** The pause before the next question because of changes. A question for each change of a busy cloud would cost too much. */
  #pauseMs = 0;
  #pausing: NodeJS.Timeout | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(
    connection: EtcdConnection,
    stream: Stream,
    rangeOf: (range: string) => WireRange,
    keyPrefix: string,
    listener: RangeListener,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#rangeOf = rangeOf;
    this.#keyPrefix = keyPrefix;
    this.#listener = listener;
    connection.closing.addEventListener('abort', this.#stop, { once: true });
    void this.#read();
  }

  async #read(): Promise<void> {
    try {
      // A stream of grpc-js is a Duplex of Node, although its declaration in etcd3 does not say so.
      for await (const response of this.#stream as unknown as AsyncIterable<IWatchResponse>) {
        if (this.#ended) return;
        this.#receive(response);
      }
      this.#end(new UcloudError('store_unavailable', 'etcd ended the watch'));
    } catch (error) {
      const message = `the watch on etcd failed: ${error instanceof Error ? error.message : String(error)}`;
      this.#end(new UcloudError('store_unavailable', message, { cause: error }));
    }
  }

  #receive(response: IWatchResponse): void {
    if (response.canceled) {
      // The answer to `remove`.
      if (this.#removed.delete(Number(response.watch_id))) return;
      throw new Error(`etcd cancelled the watch: ${response.cancel_reason || 'no reason given'}`);
    }
    this.#connection.reportRecovery();
    if (response.created) {
      this.#created.get(Number(response.watch_id))?.resolve(Number(response.header.revision));
      this.#created.delete(Number(response.watch_id));
      return;
    }
    if (response.events.length > 0) this.#pass(response);
    else if (Number(response.watch_id) === -1) this.#answered(Number(response.header.revision));
  }

  #pass({ events, fragment }: IWatchResponse): void {
    this.#isDirty = true;
    let revision = 0;
    for (const event of events) {
      const next = Number(event.kv.mod_revision);
      if (next !== revision) this.#tell(revision);
      revision = next;
      this.#fragments.push(changeOf(event, this.#keyPrefix));
    }
    if (!fragment) this.#tell(revision);
    this.#askSoon();
  }

  /** Asks at once after a quiet time, and ever later while changes keep coming. */
  #askSoon(): void {
    if (this.#asking || this.#pausing !== undefined || this.#ended) return;
    const idleMs = performance.now() - this.#askedAt;
    this.#pauseMs = idleMs > busy.idleMs ? 0 : Math.min(busy.maxPauseMs, Math.max(1, this.#pauseMs * 2));
    if (this.#pauseMs === 0) {
      this.#ask();
      return;
    }
    this.#pausing = setTimeout(() => this.#ask(), this.#pauseMs);
  }

  #tell(revision: Revision): void {
    const changes = this.#fragments;
    if (changes.length === 0) return;
    this.#fragments = [];
    this.#told = Math.max(this.#told, revision);
    this.#listener.changed({ revision, changes });
  }

  #reach(revision: Revision): void {
    this.#reached = revision;
    if (this.#expected <= revision) this.#waitsSince = undefined;
    this.#listener.reached(revision);
  }

  #ask(): void {
    clearTimeout(this.#pausing);
    this.#pausing = undefined;
    if (this.#asking || this.#ended) return;
    clearTimeout(this.#timer);
    if (this.#waitsSince !== undefined && performance.now() - this.#waitsSince > maxWaitMs) {
      // A member without the others answers for ever with its old revision.
      this.#end(new UcloudError('store_unavailable', `etcd has not shown revision ${this.#expected} in time`));
      return;
    }
    this.#asking = true;
    this.#askedAt = performance.now();
    this.#stream.write({ progress_request: {} });
    // There is no answer while the server is behind with a range.
    this.#repeatLater();
  }

  #repeatLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#asking = false;
      this.#ask();
    }, this.#delayMs).unref();
    this.#delayMs = Math.min(ask.maxMs, this.#delayMs * 2);
  }

  #answered(revision: Revision): void {
    this.#asking = false;
    clearTimeout(this.#timer);
    this.#isDirty = this.#told > revision;
    if (revision >= this.#reached) this.#reach(revision);
    if (this.#ended) return;
    if (this.#isDirty && this.#expected <= this.#reached) this.#askSoon();
    else if (this.#isDirty) this.#ask();
    else if (this.#expected > this.#reached) this.#repeatLater();
    else this.#delayMs = ask.firstMs;
  }

  async add(range: string): Promise<Revision> {
    if (this.#ended) throw new UcloudError('store_unavailable', 'the watch has ended');
    this.remove(range);
    const id = this.#nextId++;
    this.#ids.set(range, id);
    const created = Promise.withResolvers<Revision>();
    this.#created.set(id, created);
    this.#stream.write({ create_request: { ...this.#rangeOf(range), watch_id: id } });
    return created.promise;
  }

  remove(range: string): void {
    const id = this.#ids.get(range);
    if (id === undefined || this.#ended) return;
    this.#ids.delete(range);
    this.#removed.add(id);
    this.#stream.write({ cancel_request: { watch_id: id } });
  }

  expect(revision: Revision): void {
    this.#expected = Math.max(this.#expected, revision);
    if (this.#ended) return;
    if (revision > this.#reached) this.#waitsSince ??= performance.now();
    this.#delayMs = ask.firstMs;
    this.#ask();
  }

  close(): void {
    this.#ended = true;
    this.#clear(new UcloudError('store_unavailable', 'the watch is closed'));
  }

  #clear(error: unknown): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#pausing);
    this.#connection.closing.removeEventListener('abort', this.#stop);
    // `end` comes before `cancel`: etcd3 counts the failure of a writable stream as a failure of the whole member.
    this.#stream.end();
    this.#stream.cancel();
    for (const { reject } of this.#created.values()) reject(error);
    this.#created.clear();
  }

  #end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#clear(error ?? new UcloudError('store_unavailable', 'the connection to etcd is closed'));
    this.#listener.ended(error);
  }
}

/**
 * Opens a watch without ranges.
 * @throws UcloudError `store_unavailable` if etcd does not answer
 */
export async function watchEtcdRanges(
  connection: EtcdConnection,
  rangeOf: (range: string) => WireRange,
  keyPrefix: string,
  listener: RangeListener,
): Promise<RangeWatch> {
  const stream = await connection.client.watchClient.watch();
  return new EtcdRangeWatch(connection, stream, rangeOf, keyPrefix, listener);
}
