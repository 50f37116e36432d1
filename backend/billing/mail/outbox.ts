/**
 * The outbox. The commit of a cause also writes its e-mail, so there is none without its cause and no cause without it. An e-mail
 * is sent at least once: a process that is killed between the answer of the server and its commit sends it again, with the same
 * Message-ID. A cause that repeats sends nothing again.
 */
import { createHash } from 'node:crypto';
import type { BillDocument } from '../../model/billing/bill-document.ts';
import { newEvent } from '../../model/events.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, remove, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Condition, Write } from '../../store/store.ts';
import type { ClosingParts } from '../closing.ts';
import { renderPdf } from '../documents/index.ts';
import type { MailSender } from './smtp.ts';

/** The conditions and the writes of an e-mail in the commit of its cause. */
export interface Queued {
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
}

const nothing: Queued = { require: [], write: [] };

/** Returns the part of a commit that queues an e-mail. It is empty without a mail server, and if the cause has had its e-mail. */
export async function queued(
  { store, sendsMails }: Pick<ClosingParts, 'store' | 'sendsMails'>,
  key: string,
  mail: records.MailRecord,
): Promise<Queued> {
  if (!sendsMails) return nothing;
  const known = (await read(store, records.sentMails, key)) ?? (await read(store, records.mails, key));
  if (known) return nothing;
  return {
    require: [absent(records.mails, key), absent(records.sentMails, key)],
    write: [put(records.mails, key, mail)],
  };
}

/** Milliseconds after which an e-mail that the server does not take has failed. */
const maxAgeMs = 3 * 24 * 3_600_000;
/** The first and the longest pause between two attempts, in milliseconds. */
const firstPauseMs = 60_000;
const maxPauseMs = 4 * 3_600_000;

/** Returns the part of the Message-ID before the domain. Equal e-mails have equal ones. */
export const messageToken = (key: string, { at }: Pick<records.MailRecord, 'at'>): string =>
  createHash('sha256').update(`${key} ${at}`).digest('hex').slice(0, 40);

/** Sends the e-mails of the outbox. It remembers the failed attempts; another leader begins to count again. */
export class MailDelivery {
  readonly #sender: MailSender;
  readonly #firstPauseMs: number;
  readonly #failures = new Map<string, { readonly count: number; readonly next: number }>();

  constructor(sender: MailSender, pauseMs = firstPauseMs) {
    this.#sender = sender;
    this.#firstPauseMs = pauseMs;
  }

  /** Tries each e-mail that is due, one after the other. */
  async run(parts: ClosingParts, over: AbortSignal): Promise<void> {
    const waiting = [...parts.mirror.list(records.mails)];
    const known = new Set(waiting.map(({ id }) => id));
    for (const id of this.#failures.keys()) if (!known.has(id)) this.#failures.delete(id);
    for (const stored of waiting) {
      if (over.aborted) return;
      if ((this.#failures.get(stored.id)?.next ?? 0) > parts.now().getTime()) continue;
      await this.#try(parts, stored, over);
    }
  }

  async #try(parts: ClosingParts, stored: Stored<records.MailRecord>, over: AbortSignal): Promise<void> {
    const { logger, now } = parts;
    // Another leader may have sent it.
    const present = await read(parts.store, records.mails, stored.id);
    if (present?.revision !== stored.revision) return;
    let why: string;
    let isFinal = false;
    try {
      const result = await this.#sender.send(
        {
          ...stored.value,
          messageToken: messageToken(stored.id, stored.value),
          files: await this.#files(parts, stored),
        },
        over,
      );
      if (result.outcome === 'sent') return end(parts, stored, 'sent');
      ({ why, isFinal } = result);
    } catch (err) {
      logger.error({ err, mail: stored.id }, 'an e-mail could not be made');
      why = 'of a fault of the billing component, which its log shows';
    }
    if (over.aborted) return;
    const at = now().getTime();
    if (isFinal || at - Date.parse(stored.value.at) >= maxAgeMs) return end(parts, stored, 'failed', why);
    const count = (this.#failures.get(stored.id)?.count ?? 0) + 1;
    const pause = Math.min(this.#firstPauseMs * 2 ** (count - 1), maxPauseMs);
    this.#failures.set(stored.id, { count, next: at + pause });
    logger.warn({ mail: stored.id, why, pause }, 'an e-mail was not sent; it will be tried again');
  }

  async #files({ store }: ClosingParts, { value: { bill } }: Stored<records.MailRecord>) {
    if (bill === undefined) return [];
    const stored = await read(store, records.billDocuments, bill);
    if (!stored) return [];
    const document = JSON.parse(stored.value.json) as BillDocument;
    return [
      { name: `${document.number}.pdf`, type: 'application/pdf', content: Buffer.from(await renderPdf(document)) },
    ];
  }
}

/** Removes an e-mail from the outbox. */
async function end(
  { store, holds, now }: ClosingParts,
  stored: Stored<records.MailRecord>,
  outcome: 'sent' | 'failed',
  why?: string,
): Promise<void> {
  const { account, subject, to } = stored.value;
  const message = `The e-mail "${subject}" to ${to.email} was not delivered: ${why}.`.slice(0, 1000);
  const event = newEvent(now(), { id: account }, { severity: 'warning', reason: 'mail_failed', message });
  await store.commit({
    require: [...holds, unchanged(stored)],
    write: [
      remove(records.mails, stored.id),
      put(records.sentMails, stored.id, { outcome, at: now().toISOString() }),
      ...(outcome === 'failed' ? [put(records.events, ...event)] : []),
    ],
  });
}
