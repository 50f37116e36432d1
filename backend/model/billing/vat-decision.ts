/** The decision of an operator about the VAT of an account. It precedes the table. */
import type { Vat, VatCategory } from './vat.ts';

/** The decision, as the account contains it. */
export interface VatDecision {
  readonly category: VatCategory;
  /** In percent, only for the category S. */
  readonly rate?: string;
  /** The legal text why no VAT is charged, for all other categories. */
  readonly reason?: string;
}

/** A field of a decision and the rule that it violates. */
export interface DecisionProblem {
  readonly pointer: string;
  readonly rule: string;
}

/** Returns the problem of a decision; undefined for a valid one. The form of each field is checked before. */
export function decisionProblem(
  { category, rate, reason }: VatDecision,
  vatNumber: string | undefined,
): DecisionProblem | undefined {
  const problem = (field: keyof VatDecision, rule: string): DecisionProblem => ({ pointer: `/${field}`, rule });
  if (category === 'S') {
    if (rate === undefined) return problem('rate', 'must be set with the category S');
    return reason === undefined ? undefined : problem('reason', 'must be missing with the category S');
  }
  if (rate !== undefined) return problem('rate', `must be missing with the category ${category}`);
  if (reason === undefined) return problem('reason', `must be set with the category ${category}: bills contain it`);
  if (category === 'AE' && vatNumber === undefined)
    return problem('category', 'must not be AE for an account without a `vat_number`');
  return undefined;
}

/** Returns the VAT of a valid decision. */
export const decidedVat = ({ category, rate = '0', reason }: VatDecision): Vat => ({
  category,
  rate,
  ...(reason !== undefined && { reason }),
});
