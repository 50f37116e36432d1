/** Waiting for an object to become what was asked for, with an error that says what kept it. */
import type { Item } from '../client/client.ts';
import { DiagnosticError } from '../framework/index.ts';
import type { Settling } from './resource.ts';

export interface Goal {
  /** The summary of a failure: `VM "web" is not running`. */
  readonly what: string;
  reached(item: Item): boolean;
  /** Why it will not get there by itself, or undefined. */
  failed(item: Item): string | undefined;
  /** Where it is, as a sentence, for the error when time is up. */
  state(item: Item): string;
}

export async function waitFor(ctx: Settling, path: string, item: Item, goal: Goal): Promise<Item> {
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
    if (!ctx.signal.aborted) throw error;
    const passed = ctx.signal.reason instanceof Error && ctx.signal.reason.name === 'TimeoutError';
    const waited = ctx.timeout === undefined ? '' : ` within ${duration(ctx.timeout)}`;
    throw new DiagnosticError(
      `${goal.what}${passed ? waited : ''}`,
      `${goal.state(last)}${passed ? '\n\nIt is kept. To wait longer, set `timeouts`.' : ' The wait was interrupted.'}`,
    );
  }
  const failure = goal.failed(last);
  if (failure !== undefined && !goal.reached(last)) throw new DiagnosticError(goal.what, failure);
  return last;
}

/** `90 s`, `10 min`. */
const duration = (milliseconds: number): string =>
  milliseconds % 60_000 === 0 ? `${milliseconds / 60_000} min` : `${Math.round(milliseconds / 100) / 10} s`;
