/**
 * Validity of callers. While a request waits, its token may be revoked or expire, and its project may be deleted. The
 * request then ends with an error, and its response shows nothing newer.
 */
import { UcloudError } from '../../contract/errors.ts';
import * as records from '../../model/records/index.ts';
import { isChangeOf, type MirrorBatch, type RecordChange } from '../../store/mirror.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import { accountOf, type Caller } from '../requests/context.ts';

/** The longest time of a timer in Node, in milliseconds. */
const maxTimerMs = 2 ** 31 - 1;

/** Returns the error of a request whose token became invalid. */
export const unauthenticated = (): UcloudError =>
  new UcloudError('unauthenticated', 'the token was revoked or has expired while the request was under way');

interface Watched {
  readonly caller: Caller;
  readonly abort: AbortController;
  timer: NodeJS.Timeout | undefined;
}

/** The watch over a caller for the duration of a request. */
export interface Watch {
  /** Aborted when the caller becomes invalid. */
  readonly signal: AbortSignal;
  end(): void;
}

/** Tells whether a change concerns a project or an account, whose tokens end with it. */
const isOwner = (change: RecordChange): boolean =>
  isChangeOf(records.projects, change) || isChangeOf(records.billingAccounts, change);

/** Checks and watches callers with the tokens and projects of the mirror. */
export class Callers {
  readonly #mirror: ApiMirror;
  readonly #watched = new Map<string, Set<Watched>>();
  readonly #stop: () => void;

  constructor(mirror: ApiMirror) {
    this.#mirror = mirror;
    this.#stop = mirror.subscribe((batch) => this.#look(batch));
  }

  /** The number of watched callers. */
  get count(): number {
    let count = 0;
    for (const group of this.#watched.values()) count += group.size;
    return count;
  }

  /**
   * Tells whether the token exists, has not expired, and has the same role, project and account as at the start of the request.
   */
  isValid({ token, role, project, billing_account, since }: Caller): boolean {
    const record = this.#mirror.get(records.tokens, token)?.value;
    // Another server may just have created the token, so the mirror may lack it.
    if (!record) return since > this.#mirror.revision;
    const same = record.role === role && record.project === project && record.billing_account === billing_account;
    if (!same) return false;
    if (project !== undefined && !this.#mirror.get(records.projects, project)) return false;
    if (billing_account !== undefined && !this.#mirror.get(records.billingAccounts, billing_account)) return false;
    return record.expires_at === undefined || Date.parse(record.expires_at) > Date.now();
  }

  /** Checks the caller. @throws UcloudError `unauthenticated` */
  check(caller: Caller): void {
    if (!this.isValid(caller)) throw unauthenticated();
  }

  /** Watches the caller of a request that takes time. */
  watch(caller: Caller): Watch {
    const watched: Watched = { caller, abort: new AbortController(), timer: undefined };
    const group = this.#watched.get(caller.token) ?? new Set();
    this.#watched.set(caller.token, group.add(watched));
    this.#examine(watched);
    return {
      signal: watched.abort.signal,
      end: () => {
        clearTimeout(watched.timer);
        group.delete(watched);
        if (group.size === 0 && this.#watched.get(caller.token) === group) this.#watched.delete(caller.token);
      },
    };
  }

  #examine(watched: Watched): void {
    clearTimeout(watched.timer);
    const { caller, abort } = watched;
    if (!this.isValid(caller)) {
      abort.abort();
      return;
    }
    const expiry = this.#mirror.get(records.tokens, caller.token)?.value.expires_at;
    if (expiry === undefined) return;
    const left = Math.max(1, Date.parse(expiry) - Date.now());
    // The caller is examined again when the timer fires: the clock or the expiry may have changed.
    watched.timer = setTimeout(() => this.#examine(watched), Math.min(left, maxTimerMs)).unref();
  }

  #look({ changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isChangeOf(records.tokens, change)) {
        for (const watched of this.#watched.get(change.id) ?? []) this.#examine(watched);
      } else if (isOwner(change) && change.stored === undefined) {
        for (const group of this.#watched.values()) {
          for (const watched of group) if (accountOf(watched.caller) === change.id) this.#examine(watched);
        }
      }
    }
  }

  close(): void {
    this.#stop();
    for (const group of this.#watched.values()) for (const { timer } of group) clearTimeout(timer);
    this.#watched.clear();
  }
}
