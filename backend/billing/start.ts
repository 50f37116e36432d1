/** The billing component: it verifies VAT numbers, and closes months. Any number of processes may run; one of them leads. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Component, Logger } from '../model/component.ts';
import * as records from '../model/records/index.ts';
import { lead } from '../store/leadership.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { type ClosingParts, closeMonth, openMonths } from './closing.ts';
import { ledgerKinds } from './ledger/account-bill.ts';
import { NumberVerification } from './verification.ts';
import type { VatVerifier } from './vies/verifier.ts';
import { createVies } from './vies/vies.ts';

/** The name of the leader's key. */
export const billingTask = 'billing';
const pollMs = 60_000;
/** Milliseconds after the end of a month. Servers whose clocks are behind may still write uses of the month. */
const graceMs = 3_600_000;

/** Options of `startBilling`. */
export interface BillingOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** Default: VIES. */
  readonly verifier?: VatVerifier;
  readonly leaseSeconds?: number;
  /** The clock, for tests. */
  readonly now?: () => Date;
  /** Milliseconds between two rounds. Default: a minute. */
  readonly pollMs?: number;
}

/**
 * Starts the component. Resolves when the mirror has read the database; another process may still lead.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function startBilling(options: BillingOptions): Promise<Component> {
  const { store, logger, leaseSeconds = 5, now = () => new Date(), verifier = createVies() } = options;
  const closing = new AbortController();
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [...ledgerKinds, records.closedMonths, records.leaders],
    logger,
  });
  const byProject = mirror.index(records.orders, ({ value }) => value.project);

  const working = lead(store, mirror, {
    kind: records.leaders,
    task: billingTask,
    leaseSeconds,
    signal: closing.signal,
    logger,
    work: async ({ holds }, over) => {
      const parts: ClosingParts = {
        ...{ store, mirror, logger, now, holds: [holds] },
        ordersOf: (project) => byProject.list(project),
      };
      const verification = new NumberVerification(verifier);
      while (!over.aborted) {
        await verification.run(parts, over);
        await closeAll(parts, over);
        await delay(options.pollMs ?? pollMs, undefined, { signal: over, ref: false }).catch(() => undefined);
      }
    },
  });
  return {
    async close() {
      closing.abort();
      await working;
      await mirror.close();
    },
  };
}

/** Closes all months that have ended. A month that waits does not hold up other accounts, and precedes the next of its account. */
async function closeAll(parts: ClosingParts, over: AbortSignal): Promise<void> {
  for (const stored of [...parts.mirror.list(records.billingAccounts)]) {
    for (const month of openMonths(parts, stored.id, graceMs)) {
      if (over.aborted) return;
      const outcome = await closeMonth(parts, stored, month);
      // A later round decides again, with a mirror that shows the change.
      if (outcome === 'waits' || outcome === 'conflict') break;
    }
  }
}
