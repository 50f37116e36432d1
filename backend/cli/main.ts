/** The `ucloud` command, run. */
import { UcloudError } from '../contract/errors.ts';
import { ApiFailure } from './client.ts';
import { ucloudProgram } from './program.ts';

const major = Number(process.versions.node.split('.')[0]);
if (major < 24) {
  console.error(`ucloud needs Node 24 or newer; this is ${process.version}.`);
  process.exit(1);
}

try {
  await ucloudProgram().parseAsync();
} catch (error) {
  if (error instanceof ApiFailure) console.error(error.message);
  else if (error instanceof UcloudError) console.error(`ucloud: ${error.message} (${error.code})`);
  else console.error(error instanceof Error ? `ucloud: ${error.message}` : error);
  process.exitCode = 1;
}
