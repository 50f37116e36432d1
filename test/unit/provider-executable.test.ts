/** The executable: a program, its compiled code and Node in one file. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { canMakeExecutable, makeExecutable } from '../../provider/packaging/executable.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip = !canMakeExecutable && 'SKIPPED: executables are made on Linux only';

t.test('an executable runs its program with the modules of Node', { skip }, async (t) => {
  const path = join(temporaryDirectory(t), 'executable');
  const program = "console.log(require('node:path').basename('/a/b'), process.argv.slice(2).join())";
  writeFileSync(path, await makeExecutable(program, ['--no-warnings']), { mode: 0o755 });
  t.equal(execFileSync(path, ['x', 'y'], { encoding: 'utf8', env: {} }), 'b x,y\n');
});

t.test('no executable is made whose compiled code V8 would refuse', { skip }, async (t) => {
  await t.rejects(makeExecutable('', ['--no-flush-bytecode']), {
    message: 'V8 refuses compiled code with the options --no-flush-bytecode',
  });
});

t.test('no executable is made of a program with characters beyond ASCII', { skip }, async (t) => {
  await t.rejects(makeExecutable("console.log('ü')", []), { message: 'the program of an executable must be ASCII' });
});
