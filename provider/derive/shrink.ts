/** Refuses a smaller size in a plan. */
import type { PlanContext } from './contexts.ts';
import { mebibytes } from './semantics.ts';

/**
 * Refuses a plan that makes a size smaller, unless the plan replaces the object.
 * @param what the noun for the message: `disk`
 * @param replacing the fields whose change replaces the object
 */
export function refuseToShrink(
  { prior, planned, changed, diagnostics }: PlanContext,
  field: string,
  what: string,
  replacing: readonly string[],
  advice: string,
): void {
  const [before, after] = [prior?.[field], planned[field]].map((size) =>
    typeof size === 'string' ? mebibytes(size) : undefined,
  );
  if (before === undefined || after === undefined || after >= before) return;
  if (replacing.some((name) => changed(name))) return;
  diagnostics.error(
    `A ${what} can only grow`,
    `\`${field}\` is ${String(prior?.[field])}, and cannot become ${String(planned[field])}. ${advice}`,
    [field],
  );
}
