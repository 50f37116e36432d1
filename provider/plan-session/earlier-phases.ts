/**
 * The numbers that earlier phases of the same Terraform leave. Terraform validates all blocks before it plans, and reads all
 * objects before it plans to destroy them. Each phase has a process of the provider. So a process leaves two numbers to
 * the next one, in a file that is named after the process of Terraform: a byte for each block with VMs, and one for each
 * object with a price.
 *
 * The numbers only decide about the call of the plan that shows the cost. Without the file, a plan may show several sums.
 */
import { appendFileSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COOKIE_NAME } from '../protocol/plugin.ts';

/** The numbers of the earlier phase. */
export interface EarlierPhase {
  /** The number of blocks with VMs in the configuration. */
  readonly vmBlocks: number;
  /** The number of objects with a price in the state. */
  readonly pricedObjects: number;
}

type Seen = 'b' | 'o';

/** The age in milliseconds after which no later phase follows. */
const maxAgeMs = 3_600_000;

/** Terraform has not started this process, and all phases are in it: in a test, or with a debugger. */
const reattached = process.env[COOKIE_NAME] === undefined;
let memory = '';

/** Returns a directory that nobody else can write to; undefined without one. */
function ownDirectory(): string | undefined {
  const user = process.getuid?.();
  const directory = join(tmpdir(), `terraform-provider-ucloud-${user ?? 'user'}`);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const found = lstatSync(directory);
  const own = found.isDirectory() && (user === undefined || (found.uid === user && (found.mode & 0o077) === 0));
  return own ? directory : undefined;
}

function withFile<T>(work: (file: string, directory: string) => T, otherwise: T): T {
  try {
    const directory = ownDirectory();
    return directory === undefined ? otherwise : work(join(directory, String(process.ppid)), directory);
  } catch {
    return otherwise;
  }
}

function note(seen: Seen): void {
  if (reattached) memory += seen;
  else withFile((file) => appendFileSync(file, seen, { mode: 0o600 }), undefined);
}

/** Notes a block with VMs. */
export const noteVmBlock = (): void => note('b');
/** Notes an object with a price. */
export const notePricedObject = (): void => note('o');

function take(): string {
  if (reattached) {
    const all = memory;
    memory = '';
    return all;
  }
  return withFile((file, directory) => {
    for (const name of readdirSync(directory)) {
      const other = join(directory, name);
      if (Date.now() - statSync(other).mtimeMs > maxAgeMs) rmSync(other, { force: true });
    }
    const all = readFileSync(file, 'latin1');
    rmSync(file);
    return all;
  }, '');
}

/** Returns the numbers of the earlier phase, once. */
export function takeEarlierPhase(): EarlierPhase {
  const all = take();
  const count = (seen: Seen) => all.split(seen).length - 1;
  return { vmBlocks: count('b'), pricedObjects: count('o') };
}
