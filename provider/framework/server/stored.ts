/** States that Terraform stored as JSON, possibly for an older version of the provider. */
import { type Json, parseJson } from '../../protocol/json.ts';
import type { RawState } from '../../protocol/messages.ts';
import { isObject } from '../../protocol/types.ts';
import type { Decoded } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';

export type Stored = { [key: string]: Json };

/** Returns a stored object. @throws DiagnosticError if it is not a JSON object */
export function readStored(what: string, raw: Decoded<typeof RawState> | undefined): Stored {
  if (!raw || raw.json.length === 0) {
    throw new DiagnosticError(
      `The stored ${what} cannot be read`,
      'It is empty, or was written by Terraform 0.11 or older.',
    );
  }
  const state = parseJson(raw.json);
  if (!isStored(state)) throw new DiagnosticError(`The stored ${what} cannot be read`, 'It is not a JSON object.');
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
 * Upgrades a stored object to the current version, one version at a time.
 * @throws DiagnosticError if the object has a later version, or if a step is missing or fails
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
      throw new DiagnosticError(`The ${what} cannot be upgraded`, `This provider does not know version ${version}.`);
    let next: unknown;
    try {
      next = step(stored);
    } catch (error) {
      if (error instanceof DiagnosticError) throw error;
      throw new DiagnosticError(
        `The ${what} cannot be upgraded`,
        `From version ${version}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    if (!isStored(next))
      throw new DiagnosticError(
        `The ${what} cannot be upgraded`,
        `The upgrade from version ${version} returned no object.`,
      );
    stored = next;
  }
  return stored;
}
