/** The context of a wait for an object that was just created or changed. */
import type { Client } from '../client/client.ts';
import type { CallContext } from '../framework/index.ts';

export interface WaitContext extends CallContext {
  readonly client: Client;
  readonly planned: Readonly<Record<string, unknown>>;
  /** True if this apply created the object. */
  readonly created: boolean;
  /** The fields that this apply changed; empty for a created object. */
  readonly changes: readonly string[];
  /** The time limit of the whole operation, in milliseconds. */
  readonly timeout: number | undefined;
}
