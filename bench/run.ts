/**
 * Runs the benches one after the other, so that they do not affect each other. `npm run bench` runs all of them, `npm
 * run bench -- api store` only some. Each bench also runs alone, with its own options: `node bench/api.ts`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { basename } from 'node:path';

const all = globSync('bench/*.ts')
  .map((file) => basename(file, '.ts'))
  .filter((name) => name !== 'run')
  .sort();
const wanted = process.argv.length > 2 ? process.argv.slice(2) : all;
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`no bench ${unknown.join(', ')}; there are ${all.join(', ')}`);
  process.exit(2);
}
for (const name of wanted) {
  console.log(`\n== ${name}`);
  const [code] = await once(spawn(process.execPath, [`bench/${name}.ts`], { stdio: 'inherit' }), 'close');
  if (code !== 0) process.exitCode = 1;
}
