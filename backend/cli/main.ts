/** The `ucloud` command: daemons, operator commands, and a command for each resource of the API. */
import { Command } from 'commander';
import { UcloudError } from '../contract/errors.ts';
import { ApiFailure } from './client.ts';
import { addComponents } from './components.ts';
import { addHostClean } from './host-clean.ts';
import { addImageImport } from './image-import.ts';
import { addLogin } from './login.ts';
import { addOperatorToken } from './operator-token.ts';
import { addResourceCommands } from './resources.ts';
import { addUp } from './up.ts';
import { version } from './version.ts';
import { addVmAccess } from './vm-access.ts';

const major = Number(process.versions.node.split('.')[0]);
if (major < 24) {
  console.error(`ucloud needs Node 24 or newer; this is ${process.version}.`);
  process.exit(1);
}

const program = new Command('ucloud')
  .description('IPv6-first virtual machine cloud')
  .version(version)
  .showHelpAfterError('(--help shows what there is)');
addUp(program);
addComponents(program);
addLogin(program);
addOperatorToken(program);
addResourceCommands(program);
addHostClean(program);
addImageImport(program);
addVmAccess(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof ApiFailure) console.error(error.message);
  else if (error instanceof UcloudError) console.error(`ucloud: ${error.message} (${error.code})`);
  else console.error(error instanceof Error ? `ucloud: ${error.message}` : error);
  process.exitCode = 1;
}
