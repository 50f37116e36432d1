/**
 * provider/constructs/bindings: a CDKTF class for each resource and data source, by cdktf's own generator, from our
 * schema. Its output is TypeScript for a compiler; a few lines are changed so that Node runs it as it is.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { schemaJson } from './schema-json.ts';
import { type GeneratedFile, generatedBy, type Step } from './step.ts';

const target = 'provider/constructs/bindings';

interface CodeMaker {
  save(directory: string): Promise<void>;
}
interface Generators {
  readonly CodeMaker: new () => CodeMaker;
  readonly TerraformProviderGenerator: new (code: CodeMaker, schema: unknown) => { generateAll(): void };
}

/** By its inner path: the package's front door wants a compiler for other languages to be installed. */
function generators(): Generators {
  const require = createRequire(join(import.meta.dirname, '../../provider/package.json'));
  return {
    ...(require('codemaker') as Pick<Generators, 'CodeMaker'>),
    ...(require('@cdktf/provider-generator/lib/get/generator/provider-generator.js') as Pick<
      Generators,
      'TerraformProviderGenerator'
    >),
  };
}

/** Whole paths in imports, no parameter properties, no links to a registry where these pages are not. */
const runnable = (text: string): string =>
  `// ${generatedBy}\n// @ts-nocheck\n${text
    .replace(/^\/\/ (generated|https).*\n/gm, '')
    .replace(/ \* *\n *\* Docs at Terraform Registry: .*\n/g, '')
    .replace(/^ *\* Docs at Terraform Registry: .*\n/gm, '')
    .replace(/from '\.\/([a-z-]+)'/g, "from './$1/index.ts'")
    .replace(/from '\.\/index\.ts'/g, "from './index.ts'")
    .replace(
      /constructor\(protected (\w+: [^,]+), protected (\w+: [^,]+), protected (\w+: [^)]+)\)/g,
      'constructor($1, $2, $3)',
    )}`;

export const providerBindings: Step = {
  name: 'provider bindings',
  async generate() {
    const { CodeMaker, TerraformProviderGenerator } = generators();
    const code = new CodeMaker();
    new TerraformProviderGenerator(code, await schemaJson()).generateAll();
    const directory = await mkdtemp(join(tmpdir(), 'ucloud-bindings-'));
    try {
      await code.save(directory);
      const root = join(directory, 'providers/ucloud');
      const files: GeneratedFile[] = [];
      for (const path of await readdir(root, { recursive: true })) {
        if (!path.endsWith('index.ts') || path.endsWith('lazy-index.ts')) continue;
        const content = runnable(await readFile(join(root, path), 'utf8'));
        files.push({ path: `${target}/${path}`, content, checkedIn: false });
      }
      return files.sort((a, b) => (a.path < b.path ? -1 : 1));
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};
