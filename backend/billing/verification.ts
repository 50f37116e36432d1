/** The verification of the VAT numbers of accounts. An answer that is not known is asked for again later. */

import type { VatNumber } from '../model/billing/vat-numbers.ts';
import * as records from '../model/records/index.ts';
import { absent, put, rewrite, unchanged } from '../store/collection.ts';
import type { ClosingParts } from './closing.ts';
import { viesNumber } from './ledger/vat-state.ts';
import type { VatVerifier } from './vies/verifier.ts';

/** Milliseconds until an answer is asked for again. */
const unknownMs = 15 * 60_000;
const validMs = 30 * 24 * 3_600_000;
/** A new number becomes valid some days after its registration. */
const invalidMs = 24 * 3_600_000;
const freshMs = { unknown: unknownMs, valid: validMs, invalid: invalidMs } as const;

/** Verifies VAT numbers. It remembers when it asked, so that a number without an answer is not asked for in each round. */
export class NumberVerification {
  readonly #verifier: VatVerifier;
  readonly #asked = new Map<string, number>();

  constructor(verifier: VatVerifier) {
    this.#verifier = verifier;
  }

  /** Asks for the numbers without a fresh answer, one after the other. */
  async run({ store, mirror, logger, holds, now }: ClosingParts, over: AbortSignal): Promise<void> {
    const numbers = new Map<string, { number: VatNumber; requester: VatNumber | undefined }>();
    for (const { value } of mirror.list(records.billingAccounts)) {
      const number = viesNumber(value);
      const entity = mirror.get(records.legalEntities, value.legal_entity)?.value;
      if (number !== undefined) numbers.set(number.text, { number, requester: entity && viesNumber(entity) });
    }
    for (const [text, { number, requester }] of numbers) {
      if (over.aborted) return;
      const before = mirror.get(records.vatChecks, text);
      const present = now().getTime();
      const age = before ? present - Date.parse(before.value.at) : Number.POSITIVE_INFINITY;
      if (before && age < freshMs[before.value.answer]) continue;
      if (present - (this.#asked.get(text) ?? 0) < unknownMs) continue;
      this.#asked.set(text, present);
      const answer = await this.#verifier.verify(number, requester, over);
      // Further questions would time out as well. The next round goes on with other numbers.
      const isOutage = answer.answer === 'unknown' && answer.retry_after !== undefined;
      const at = now().toISOString();
      // A number that was valid stays so while VIES does not answer.
      if (answer.answer === 'unknown' && before && before.value.answer !== 'unknown') {
        if (isOutage) return;
        continue;
      }
      if (answer.answer === 'unknown')
        logger.warn({ number: text, why: answer.reason }, 'a VAT number is not verified yet');
      const next: records.VatCheckRecord = {
        answer: answer.answer,
        ...(answer.answer === 'unknown'
          ? { reason: answer.reason }
          : {
              ...(answer.name !== undefined && { name: answer.name }),
              ...(answer.consultation_number !== undefined && { consultation_number: answer.consultation_number }),
            }),
        since: before?.value.since ?? at,
        at,
      };
      await store.commit({
        require: [...holds, before ? unchanged(before) : absent(records.vatChecks, text)],
        write: [before ? rewrite(records.vatChecks, before, next) : put(records.vatChecks, text, next)],
      });
      if (isOutage) return;
    }
  }
}
