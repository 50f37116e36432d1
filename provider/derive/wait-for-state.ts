/** Waits until an object has the requested state. The error of a failed wait explains the current state. */
import type { Item } from '../client/item.ts';
import { explain } from '../client/problem.ts';
import { DiagnosticError, UnwatchedError } from '../framework/index.ts';
import type { WaitContext } from './wait-context.ts';

/** The requested state. */
export interface Goal {
  /** The summary of a failure: `VM "web" is not running`. */
  readonly what: string;
  /** Returns true if the object has the state. */
  reached(item: Item): boolean;
  /** Returns why the object cannot reach the state by itself, as a sentence; else undefined. */
  failed(item: Item): string | undefined;
  /** Returns the current state as a sentence, for the error after the time limit. */
  state(item: Item): string;
}

/**
 * Waits for the goal and returns the object after the wait. After the time limit, the diagnostics contain an error.
 * @throws DiagnosticError if the object failed or was deleted; UnwatchedError if the state of a new object is not known
 */
export async function waitFor(ctx: WaitContext, path: string, item: Item, goal: Goal): Promise<Item> {
  let last = item;
  const done = (now: Item | undefined): boolean => {
    if (now === undefined) return true;
    last = now;
    return goal.reached(now) || goal.failed(now) !== undefined;
  };
  try {
    const end = await ctx.client.wait(path, item, done, ctx.signal);
    if (end === undefined) throw new DiagnosticError(goal.what, 'It was deleted while Terraform waited for it.');
  } catch (error) {
    // The framework explains Ctrl-C and all other errors.
    if (!timedOut(ctx.signal)) throw ctx.created ? unwatched(error, goal) : error;
    const within = ctx.timeout === undefined ? '' : ` within ${duration(ctx.timeout)}`;
    // Terraform taints the object of a failed creation. A failed update does not undo the change.
    const next = ctx.created
      ? 'The object exists and continues without Terraform. Terraform marks it as tainted: the next apply replaces it, unless you run `terraform untaint` first.'
      : 'The API made the change, which continues without Terraform.';
    ctx.diagnostics.error(`${goal.what}${within}`, `${goal.state(last)}\n\n${next} To wait longer, set \`timeouts\`.`);
    return last;
  }
  const failure = goal.failed(last);
  if (failure !== undefined && !goal.reached(last)) throw new DiagnosticError(goal.what, failure);
  return last;
}

/**
 * Returns the error of a wait that lost the API, for instance because the token expired. The object itself did not fail, so
 * Terraform must not taint it.
 */
function unwatched(error: unknown, { what }: Goal): unknown {
  const explained = explain(error, `${what}, as far as is known`, new Set());
  return explained instanceof DiagnosticError && explained !== error
    ? new UnwatchedError(explained.diagnostics)
    : error;
}

/** Returns true if the time for the operation is over. */
export const timedOut = (signal: AbortSignal): boolean =>
  signal.aborted && signal.reason instanceof Error && signal.reason.name === 'TimedOut';

/** Returns a duration as text: `90 s`, `10 min`. */
export const duration = (milliseconds: number): string =>
  milliseconds % 60_000 === 0 ? `${milliseconds / 60_000} min` : `${Math.round(milliseconds / 100) / 10} s`;
