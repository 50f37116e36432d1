/** The key file of Terraform states. */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { newStateKeyFile, parseStateKeys, type StateKeys } from '../api/terraform-state/keys.ts';

/** Reads the key file. @throws Error that names the file and the problem */
export function readStateKeys(file: string): StateKeys {
  try {
    return parseStateKeys(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`--state-key ${file}: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Reads the key file, and creates it if it is missing. The creation is atomic and never replaces a file. @throws Error
 * that names the file and the problem
 */
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
