/** The `ucloud` command, run. */
import { UcloudError } from '../contract/errors.ts';
import { ApiFailure } from './client.ts';
import { ucloudProgram } from './program.ts';
import { SomeFailed } from './several.ts';
import { PipeClosed, tell } from './standard-output.ts';

const major = Number(process.versions.node.split('.')[0]);
if (major < 24) {
  console.error(`ucloud needs Node 24 or newer; this is ${process.version}.`);
  process.exit(1);
}

try {
  await ucloudProgram().parseAsync();
} catch (error) {
  // As if the signal SIGPIPE had ended it: whoever has closed the pipe has read enough.
  if (error instanceof PipeClosed) process.exit(141);
  if (error instanceof ApiFailure || error instanceof SomeFailed) tell(error.message);
  else if (error instanceof UcloudError) tell(`ucloud: ${error.message} (${error.code})`);
  else tell(error instanceof Error ? `ucloud: ${error.message}` : String(error));
  process.exitCode = 1;
}
