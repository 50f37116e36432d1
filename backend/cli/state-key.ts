/** The file with the keys that states of Terraform are encrypted with. */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { newStateKeyFile, parseStateKeys, type StateKeys } from '../api/terraform-state/keys.ts';

/** Throws an Error that names the file and what is wrong with it. */
export function readStateKeys(file: string): StateKeys {
  try {
    return parseStateKeys(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`--state-key ${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** The same, and makes the file if it is not there: whole or not at all, and never over one that is. */
export function ensureStateKeys(file: string): StateKeys {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, newStateKeyFile(), { mode: 0o600, flush: true });
  try {
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft);
  }
  return readStateKeys(file);
}
