/** The verification of VAT numbers: the question and its three answers. */
import type { VatNumber } from '../../model/billing/vat-numbers.ts';

/** An answer of the authority. Bills keep it as evidence. */
export interface VerifiedAnswer {
  readonly answer: 'valid' | 'invalid';
  /** The name and the address of the business. Some countries do not tell them. */
  readonly name?: string;
  readonly address?: string;
  /** The proof of the question. It exists only with a requester. */
  readonly consultation_number?: string;
  /** The time of the answer, in UTC. */
  readonly at: string;
}

/** No answer. It never means that a number is invalid. */
export interface UnknownAnswer {
  readonly answer: 'unknown';
  readonly reason: string;
  /** In seconds. Absent if another try will not help. */
  readonly retry_after?: number;
}

export type VatAnswer = VerifiedAnswer | UnknownAnswer;

/** Asks whether a VAT number exists. It never rejects, except after the abort of the signal. */
export interface VatVerifier {
  /** @param requester the VAT number of the legal entity that asks */
  verify(number: VatNumber, requester?: VatNumber, signal?: AbortSignal): Promise<VatAnswer>;
}
