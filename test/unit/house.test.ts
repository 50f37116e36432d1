/** The rules of the house that a program can check: form, types, direction of imports, generated files, the API document. */
import { execFile } from 'node:child_process';
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
t.test('imports run downhill', (t) => passes(t, process.execPath, ['scripts/check-imports.ts']));
t.test('generated files are fresh', (t) => passes(t, process.execPath, ['scripts/generate.ts', '--check']));
t.test('openapi.yaml satisfies a linter', (t) => passes(t, 'npm', ['run', '-s', 'lint:openapi']));
