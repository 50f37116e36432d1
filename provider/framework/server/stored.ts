/** States that Terraform stored as JSON, maybe with an older version of the provider. */
import { type Json, parseJson } from '../../protocol/json.ts';
import type { RawState } from '../../protocol/messages.ts';
import { isObject } from '../../protocol/types.ts';
import type { Decoded } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';

export type Stored = { [key: string]: Json };

/** @throws DiagnosticError when it is not a JSON object. */
export function readStored(what: string, raw: Decoded<typeof RawState> | undefined): Stored {
  if (!raw || raw.json.length === 0) {
    throw new DiagnosticError(`The stored ${what} can not be read`, 'It is empty, or of Terraform 0.11 or older.');
  }
  const state = parseJson(raw.json);
  if (!isStored(state)) throw new DiagnosticError(`The stored ${what} can not be read`, 'It is not a JSON object.');
  return state;
}

function isStored(json: unknown): json is Stored {
  return isObject(json);
}

interface Versioned {
  version?: number;
  upgrade?: Readonly<Record<number, (stored: Readonly<Record<string, unknown>>) => Record<string, unknown>>>;
}

/**
 * Reads what was stored with some version, and brings it to the present one, a version at a time.
 * @throws DiagnosticError when it is of a later version, or a step is missing or fails.
 */
export function upgradeStored(
  what: string,
  from: number,
  raw: Decoded<typeof RawState> | undefined,
  { version: current = 0, upgrade }: Versioned,
): Stored {
  if (from > current) {
    throw new DiagnosticError(
      `The ${what} was written by a later version of the provider`,
      `It has version ${from}; this provider knows version ${current}. Use at least the version of the provider that ` +
        'wrote it.',
    );
  }
  let stored = readStored(what, raw);
  for (let version = from; version < current; version++) {
    const step = upgrade?.[version];
    if (!step)
      throw new DiagnosticError(`The ${what} can not be upgraded`, `This provider does not know version ${version}.`);
    let next: unknown;
    try {
      next = step(stored);
    } catch (error) {
      if (error instanceof DiagnosticError) throw error;
      throw new DiagnosticError(
        `The ${what} can not be upgraded`,
        `From version ${version}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    if (!isStored(next))
      throw new DiagnosticError(`The ${what} can not be upgraded`, `Version ${version} gave no object.`);
    stored = next;
  }
  return stored;
}
