/** Runs the `ucloud` command. */
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
  // The exit code is that of SIGPIPE: the reader has closed the pipe.
  if (error instanceof PipeClosed) process.exit(141);
  if (error instanceof ApiFailure || error instanceof SomeFailed) tell(error.message);
  else if (error instanceof UcloudError) tell(`ucloud: ${error.message} (${error.code})`);
  else tell(error instanceof Error ? `ucloud: ${error.message}` : String(error));
  process.exitCode = 1;
}
