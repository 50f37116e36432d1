/**
 * Writes every generated file: `npm run generate`. With `--check` it writes nothing and exits 1 if a checked-in file
 * is not what it would write.
 *
 * A generator is a step: it returns files, each with its path from the root of the repository. Steps run in order and
 * may read what earlier ones wrote.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Step } from './generate/step.ts';

const steps: readonly (() => Promise<Step>)[] = [
  async () => (await import('./generate/openapi.ts')).openapi,
  async () => (await import('./generate/error-reference.ts')).errorReference,
  async () => (await import('./generate/api-reference.ts')).apiReference,
];

const root = join(import.meta.dirname, '..');
const check = process.argv.includes('--check');
const stale: string[] = [];

for (const load of steps) {
  const step = await load();
  for (const file of await step.generate()) {
    const path = join(root, file.path);
    const present = await readFile(path, 'utf8').catch(() => undefined);
    if (present === file.content) continue;
    if (!check) {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, file.content);
      console.log(`${step.name}: wrote ${file.path}`);
    } else if (file.checkedIn) {
      stale.push(file.path);
    }
  }
}

if (stale.length > 0) {
  for (const path of stale) console.error(`${path} is not what \`npm run generate\` writes`);
  process.exitCode = 1;
}
