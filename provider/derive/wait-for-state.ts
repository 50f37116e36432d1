/** Waiting for an object to become what was asked for, with an error that says what kept it. */
import type { Item } from '../client/item.ts';
import { explain } from '../client/problem.ts';
import { DiagnosticError, UnwatchedError } from '../framework/index.ts';
import type { WaitContext } from './wait-context.ts';

export interface Goal {
  /** The summary of a failure: `VM "web" is not running`. */
  readonly what: string;
  reached(item: Item): boolean;
  /** Why it will not get there by itself, or undefined. */
  failed(item: Item): string | undefined;
  /** Where it is, as a sentence, for the error when time is up. */
  state(item: Item): string;
}

/** The object when it is there; when time is up, as it is then, with an error among the diagnostics. */
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
    // Ctrl-C is the framework's to explain; so is everything that no wait is to blame for.
    if (!timedOut(ctx.signal)) throw ctx.created ? unwatched(error, goal) : error;
    const within = ctx.timeout === undefined ? '' : ` within ${duration(ctx.timeout)}`;
    // Terraform taints what a failed create has made; a change that was made stays made.
    const next = ctx.created
      ? 'It exists and goes on without Terraform, which marks it as tainted: the next apply makes it anew, unless `terraform untaint` keeps it.'
      : 'The change was made and goes on without Terraform.';
    ctx.diagnostics.error(`${goal.what}${within}`, `${goal.state(last)}\n\n${next} To wait longer, set \`timeouts\`.`);
    return last;
  }
  const failure = goal.failed(last);
  if (failure !== undefined && !goal.reached(last)) throw new DiagnosticError(goal.what, failure);
  return last;
}

/**
 * The API does not say any more how the object does: a token that expired or was revoked, a certificate that nobody trusts
 * any longer. That is no fault of the object, which goes on without being watched.
 */
function unwatched(error: unknown, { what }: Goal): unknown {
  const told = explain(error, `${what}, as far as is known`, new Set());
  return told instanceof DiagnosticError && told !== error ? new UnwatchedError(told.diagnostics) : error;
}

/** Returns true if the time for the operation is over. */
export const timedOut = (signal: AbortSignal): boolean =>
  signal.aborted && signal.reason instanceof Error && signal.reason.name === 'TimedOut';

/** `90 s`, `10 min`. */
export const duration = (milliseconds: number): string =>
  milliseconds % 60_000 === 0 ? `${milliseconds / 60_000} min` : `${Math.round(milliseconds / 100) / 10} s`;
