/**
 * Writes every generated file: `npm run generate`.
 *
 *   node scripts/generate.ts --check      writes nothing; exits with 1 if a checked-in file is out of date
 *   node scripts/generate.ts --if-stale   writes only files that are not checked in and are missing or older than their sources
 *
 * A generator is a step. It returns files, each with its path from the root of the repository. The steps run in order
 * and may read the files of earlier steps.
 */
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { commandRuleFiles } from './generate/command-rules.ts';
import { providerRuleFiles } from './generate/provider-rules.ts';
import type { Step } from './generate/step.ts';

interface Generator {
  readonly load: () => Promise<Step>;
  /** The written files that are not checked in. */
  readonly outputs: readonly string[];
  /** The source files, or directories of source files, besides openapi.yaml and scripts/generate/. */
  readonly sources?: readonly string[];
}

const generators: readonly Generator[] = [
  { load: async () => (await import('./generate/openapi.ts')).openapi, outputs: [] },
  { load: async () => (await import('./generate/error-reference.ts')).errorReference, outputs: [] },
  { load: async () => (await import('./generate/api-reference.ts')).apiReference, outputs: [] },
  {
    load: async () => (await import('./generate/provider-client.ts')).providerClient,
    outputs: ['provider/schema/api.gen.ts'],
  },
  {
    load: async () => (await import('./generate/command-rules.ts')).commandRules,
    outputs: commandRuleFiles.map(([, copy]) => copy),
    sources: commandRuleFiles.map(([source]) => source),
  },
  {
    load: async () => (await import('./generate/provider-schema.ts')).providerSchema,
    outputs: ['provider/schema/resources.gen.ts', 'provider/schema/errors.gen.ts'],
  },
  {
    load: async () => (await import('./generate/provider-rules.ts')).providerRules,
    outputs: providerRuleFiles.map(([, copy]) => copy),
    sources: providerRuleFiles.map(([source]) => source),
  },
  {
    load: async () => (await import('./generate/provider-bindings.ts')).providerBindings,
    outputs: ['provider/constructs/bindings/index.ts', 'provider/constructs/cdktn/index.ts'],
    sources: [
      '',
      '/constructs',
      '/derive',
      '/ephemeral',
      '/framework',
      '/functions',
      '/resources',
      '/schema',
      '/upload',
    ].map((folder) => `provider${folder}`),
  },
  { load: async () => (await import('./generate/acceptance.ts')).acceptanceReference, outputs: [] },
  { load: async () => (await import('./generate/provider-docs.ts')).providerDocs, outputs: [] },
];

const root = join(import.meta.dirname, '..');
const check = process.argv.includes('--check');
const ifStale = process.argv.includes('--if-stale');
const stale: string[] = [];

/** Returns the modification time of a file, or of the newest file in a directory; 0 if there is none. */
async function modified(path: string): Promise<number> {
  const own = await stat(join(root, path)).catch(() => undefined);
  if (!own?.isDirectory()) return own?.mtimeMs ?? 0;
  const entries = await readdir(join(root, path), { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => modified(`${path}/${entry.name}`));
  return Math.max(0, ...(await Promise.all(files)));
}

async function isStale({ outputs, sources = [] }: Generator): Promise<boolean> {
  if (outputs.length === 0) return false;
  const newest = Math.max(...(await Promise.all(['openapi.yaml', 'scripts/generate', ...sources].map(modified))));
  return Math.min(...(await Promise.all(outputs.map(modified)))) < newest;
}

for (const generator of generators) {
  if (ifStale && !(await isStale(generator))) continue;
  const step = await generator.load();
  for (const file of await step.generate()) {
    const path = join(root, file.path);
    const present = await readFile(path, 'utf8').catch(() => undefined);
    if (check) {
      if (file.checkedIn && present !== file.content) stale.push(file.path);
    } else if (present !== file.content || !file.checkedIn) {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, file.content);
      if (present !== file.content) console.log(`${step.name}: wrote ${file.path}`);
    }
  }
}

if (stale.length > 0) {
  for (const path of stale) console.error(`${path} is out of date; run \`npm run generate\``);
  process.exitCode = 1;
}
