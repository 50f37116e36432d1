/** The `ucloud` command: daemons, operator commands, and commands for each resource of the API. */
import { Command } from 'commander';
import { addBillCommands } from './bill.ts';
import { addCompletion } from './completion.ts';
import { addComponents } from './components.ts';
import { addCost } from './cost.ts';
import { addFileUpload } from './file-upload.ts';
import { addHostClean } from './host-clean.ts';
import { addImageImport } from './image-import.ts';
import { addLab } from './lab.ts';
import { addLogin } from './login.ts';
import { addOperatorToken } from './operator-token.ts';
import { addPriceExport } from './price-export.ts';
import { addQuote } from './quote.ts';
import { addResourceCommands } from './resources.ts';
import { tell, writeOut } from './standard-output.ts';
import { addStaticRoutes } from './static-routes.ts';
import { addUp } from './up.ts';
import { version } from './version.ts';
import { addVmAccess } from './vm-access.ts';

/** Returns the whole command. */
export function ucloudProgram(): Command {
  const program = new Command('ucloud')
    .description('IPv6-first virtual machine cloud')
    .configureOutput({ writeOut, writeErr: (text) => tell(text.replace(/\n$/, '')) })
    .version(version)
    // So options of `ucloud cost` are not those of `ucloud cost list`.
    .enablePositionalOptions()
    .showHelpAfterError('(--help shows all commands and options)');
  addUp(program);
  addComponents(program);
  addLogin(program);
  addOperatorToken(program);
  addResourceCommands(program);
  addQuote(program);
  addPriceExport(program);
  addCost(program);
  addBillCommands(program);
  addHostClean(program);
  addStaticRoutes(program);
  addFileUpload(program);
  addImageImport(program);
  addVmAccess(program);
  addLab(program);
  addCompletion(program);
  return program;
}
