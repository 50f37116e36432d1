/** The billing component: it verifies VAT numbers, and closes months. Any number of processes may run; one of them leads. */
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import { monthText } from '../model/billing/months.ts';
import type { Component, Logger } from '../model/component.ts';
import { newEvent } from '../model/events.ts';
import * as records from '../model/records/index.ts';
import { put } from '../store/collection.ts';
import { lead } from '../store/leadership.ts';
import { openMirror } from '../store/mirror.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Store } from '../store/store.ts';
import { type ClosingParts, type ClosingResult, closeMonth, openMonths } from './closing.ts';
import { dunAll, dunningKinds } from './dunning.ts';
import { ledgerKinds } from './ledger/account-bill.ts';
import { viesNumber } from './ledger/vat-state.ts';
import { MailDelivery } from './mail/outbox.ts';
import type { MailSender } from './mail/smtp.ts';
import { prepaidKinds, watchPrepaid } from './prepaid.ts';
import { NumberVerification } from './verification.ts';
import type { VatVerifier } from './vies/verifier.ts';
import { createVies } from './vies/vies.ts';

/** The name of the leader's key. */
export const billingTask = 'billing';
const pollMs = 60_000;
/** Milliseconds after the end of a month. Servers whose clocks are behind may still write uses of the month. */
const graceMs = 3_600_000;
/** Milliseconds until a month that waits is tried again, although no fact has changed. */
const waitMs = 15 * 60_000;
/** Milliseconds in which the mirror must show the database. */
const catchUpMs = 10_000;

/** Options of `startBilling`. */
export interface BillingOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** Default: VIES. */
  readonly verifier?: VatVerifier;
  /** The mail server. Default: no e-mails. */
  readonly mails?: MailSender;
  /** Milliseconds until the second attempt to send an e-mail, for tests. */
  readonly mailPauseMs?: number;
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
    kinds: [
      ...[...ledgerKinds, ...dunningKinds, ...prepaidKinds, records.closedMonths, records.billGuards],
      ...[records.mails, records.leaders],
    ],
    logger,
  });
  const bills = mirror.index(records.bills, ({ value }) => value.billing_account);
  const payments = mirror.index(records.payments, ({ value }) => value.billing_account);
  const byProject = mirror.index(records.orders, ({ value }) => value.project);

  const working = lead(store, mirror, {
    kind: records.leaders,
    task: billingTask,
    leaseSeconds,
    signal: closing.signal,
    logger,
    work: async ({ holds }, over) => {
      const parts: ClosingParts = {
        ...{ store, mirror, logger, now, bills, payments, holds: [holds], sendsMails: options.mails !== undefined },
        ordersOf: (project) => byProject.list(project),
      };
      const rounds = async (round: () => Promise<void>) => {
        while (!over.aborted) {
          await round();
          await delay(options.pollMs ?? pollMs, undefined, { signal: over, ref: false }).catch(() => undefined);
        }
      };
      const verification = new NumberVerification(verifier);
      const waiting = new Map<string, Waiting>();
      const delivery = options.mails && new MailDelivery(options.mails, options.mailPauseMs);
      // VIES may take hours for all numbers, and so may a mail server. Bills do not wait for them.
      await Promise.all([
        rounds(() => verification.run(parts, over)),
        rounds(() => closeAll(parts, waiting, over)),
        rounds(() => dunAll(parts, over)),
        rounds(() => watchPrepaid(parts, over)),
        ...(delivery ? [rounds(() => delivery.run(parts, over))] : []),
      ]);
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

/** A month that waits: the facts that it waits for, and the instant of the next try, in milliseconds since 1970. */
interface Waiting {
  readonly facts: string;
  readonly until: number;
}

/** Returns the revisions of the records that a bill may wait for. */
const factsOf = ({ mirror }: ClosingParts, { value, revision }: Stored<records.BillingAccountRecord>): string => {
  const number = viesNumber(value)?.text;
  const [entity, check] = [
    mirror.get(records.legalEntities, value.legal_entity),
    number === undefined ? undefined : mirror.get(records.vatChecks, number),
  ];
  const rates = [...mirror.list(records.vatRates)].map((each) => each.id);
  return [revision, entity?.revision, check?.revision, ...rates].join(' ');
};

/**
 * Closes all months that have ended. A month that waits or fails does not hold up other accounts, and precedes the next of its
 * account. @param waiting the months that wait, about which an event has been written
 */
async function closeAll(parts: ClosingParts, waiting: Map<string, Waiting>, over: AbortSignal): Promise<void> {
  const { store, mirror, logger, holds, now } = parts;
  // A mirror that is behind may lack the last uses.
  if (!(await mirror.catchUp({ timeoutMs: catchUpMs, signal: over }))) return;
  for (const stored of [...mirror.list(records.billingAccounts)]) {
    for (const month of openMonths(parts, stored.id, graceMs)) {
      if (over.aborted) return;
      const text = monthText(month.from);
      const key = `${stored.id}/${text}`;
      const facts = factsOf(parts, stored);
      const known = waiting.get(key);
      // The rating of a large month takes time, and gives the same result until a fact changes.
      if (known?.facts === facts && now().getTime() < known.until) break;
      const result = await closeMonth(parts, stored, month).catch((err: unknown): ClosingResult => {
        if (err instanceof UcloudError) throw err;
        logger.error({ err, account: stored.id, month: text }, 'a bill failed; the other accounts go on');
        return { outcome: 'waits', why: 'of a fault of the billing component, which its log shows' };
      });
      // A later round decides again, with a mirror that shows the change.
      if (result.outcome === 'closed' || result.outcome === 'already') continue;
      if (result.outcome === 'waits') waiting.set(key, { facts, until: now().getTime() + waitMs });
      if (result.outcome === 'waits' && !known) {
        const message = `The bill of ${text} waits because ${result.why}.`;
        const event = newEvent(now(), { id: stored.id }, { severity: 'warning', reason: 'bill_waits', message });
        await store.commit({ require: [...holds], write: [put(records.events, ...event)] });
      }
      break;
    }
    // Other work of the process goes on between two accounts.
    await setImmediate();
  }
}
