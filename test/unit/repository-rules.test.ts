/** The rules of the house that a program can check: form, types, direction of imports, generated files, the API document. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';

const run = promisify(execFile);

async function passes(t: Test, command: string, args: string[]): Promise<void> {
  try {
    await run(command, args, { maxBuffer: 64 * 1024 * 1024 });
    t.pass(`${command} ${args.join(' ')}`);
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    t.fail(`${command} ${args.join(' ')}`, { output: `${stdout}\n${stderr}`.slice(-8000) });
  }
}

t.test('format and lint', (t) => passes(t, 'biome', ['check', '.']));
t.test('types', (t) => passes(t, 'tsc', ['--noEmit']));
t.test('imports run downhill, without cycles', (t) => passes(t, 'depcruise', ['backend', 'provider', 'cdk-examples']));
t.test('generated files are fresh', (t) => passes(t, process.execPath, ['scripts/generate.ts', '--check']));
t.test('openapi.yaml satisfies a linter', (t) => passes(t, 'npm', ['run', '-s', 'lint:openapi']));

t.test('tests that documentation names as proof have these titles', async (t) => {
  const page = await readFile('docs/provider-complaints.md', 'utf8');
  let proofs = 0;
  for (const [, target = '', titles = ''] of page.matchAll(/\]\(\.\.\/(test\/[^)]+)\)((?:[ ,(]+"[^"]+")+)/g)) {
    const test = await readFile(join('.', target), 'utf8');
    for (const [, title = ''] of titles.matchAll(/"([^"]+)"/g)) {
      proofs++;
      t.ok(test.includes(title), `${target}: ${title}`);
    }
  }
  t.ok(proofs >= 20, `${proofs} titles`);
});
