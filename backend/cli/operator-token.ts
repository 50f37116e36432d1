/** `ucloud operator-token`: creates an operator's token in the database, for operators who have lost theirs. */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { Name } from '../contract/fields.ts';
import { defaultDataDirectory, layout } from './layout.ts';
import { say } from './standard-output.ts';

interface OperatorTokenOptions {
  readonly name: string;
  readonly data: string;
  readonly store?: string;
}

async function operatorToken({ name, data, store: url }: OperatorTokenOptions): Promise<void> {
  process.umask(0o077);
  if (!new RegExp(Name().pattern ?? '').test(name)) {
    throw new Error(`--name: "${name}" must be 1 to 63 lower-case letters, digits and inner hyphens`);
  }
  if (url === undefined && !existsSync(layout(data).store)) throw new Error(`${layout(data).store} does not exist`);
  const [{ guardFormat }, { createLogger }, { makeOperatorToken }, { openStore }] = await Promise.all([
    import('./format-guard.ts'),
    import('./log.ts'),
    import('../api/tokens/first-operator-token.ts'),
    import('../store/open.ts'),
  ]);
  const logger = createLogger({ level: 'warn' });
  const store = await openStore(url ?? layout(data).store, { logger });
  try {
    await (await guardFormat(store, logger, () => undefined)).close();
    say((await makeOperatorToken(store, name)).secret);
  } finally {
    await store.close();
  }
}

/** Adds `ucloud operator-token`. */
export function addOperatorToken(program: Command): void {
  program
    .command('operator-token')
    .description("create an operator's token in the database and print it, for operators who have lost theirs")
    .requiredOption('--name <name>', 'name of the token')
    .option('--data <directory>', 'data directory of `ucloud up`, which must not run meanwhile', defaultDataDirectory())
    .option('--store <url>', 'the shared database instead: etcd://host:port[,host:port]')
    .action(operatorToken);
}
