/**
 * Generates provider/constructs/bindings: a CDKTF class for each resource and data source. cdktf's own generator writes
 * them from our schema. Its output needs a TypeScript compiler, so this step changes a few lines for Node.
 *
 * Generates provider/constructs/cdktn too: the same bindings, and the constructs, for CDK Terrain, the successor of
 * cdktf. Its classes have the same names and options, but objects of one library do not work in the other. So each
 * library needs constructs that import it. The generator of CDK Terrain would add 133 npm packages to write the same
 * files.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { provider } from '../../provider/provider.ts';
import { providerExtras } from './provider-extras.ts';
import { schemaJson } from './schema-json.ts';
import { type GeneratedFile, generatedBy, type Step } from './step.ts';

const root = join(import.meta.dirname, '../..');
const constructsFolder = 'provider/constructs';

interface CodeMaker {
  save(directory: string): Promise<void>;
}
interface Generators {
  readonly CodeMaker: new () => CodeMaker;
  readonly TerraformProviderGenerator: new (code: CodeMaker, schema: unknown) => { generateAll(): void };
}

/**
 * Loads the generator by its internal path, because the package's main module requires a compiler for other languages.
 */
function loadGenerators(): Generators {
  const require = createRequire(join(root, 'provider/package.json'));
  return {
    ...(require('codemaker') as Pick<Generators, 'CodeMaker'>),
    ...(require('@cdktf/provider-generator/lib/get/generator/provider-generator.js') as Pick<
      Generators,
      'TerraformProviderGenerator'
    >),
  };
}

/**
 * Converts a generated file for Node: full paths in imports, no parameter properties. It also removes links to a
 * registry that does not have these pages, and a warning about ids that does not apply here.
 */
const toRunnableModule = (text: string): string =>
  `// ${generatedBy}\n// @ts-nocheck\n${text
    .replace(/^\/\/ (generated|https).*\n/gm, '')
    .replace(/ \* *\n *\* Docs at Terraform Registry: .*\n/g, '')
    .replace(/^ *\* Docs at Terraform Registry: .*\n/gm, '')
    .replace(/ *\*\n *\* Please be aware that the id field .*\n *\* If you experience problems .*\n/g, '')
    .replace(/\{@link https:\/\/\S+ ([^}]+)\}/g, '$1')
    .replace(/from '\.\/([a-z-]+)'/g, "from './$1/index.ts'")
    .replace(/from '\.\/index\.ts'/g, "from './index.ts'")
    .replace(
      /constructor\(protected (\w+: [^,]+), protected (\w+: [^,]+), protected (\w+: [^)]+)\)/g,
      'constructor($1, $2, $3)',
    )}`;

/**
 * Fixes the HCL output (`new App({ hclOutput: true })`): the generator writes nested attributes as blocks, which
 * Terraform rejects. Its JSON output is correct.
 */
const nestedAttributes = (text: string): string => {
  const fixed = text.replace(
    /value: (?:cdktf\.listMapperHcl\((\w+)ToHclTerraform, false\)|(\w+)ToHclTerraform)\((.*)\),\n( *)isBlock: true,\n *type: "(?:list|struct)",/g,
    (_all, list: string | undefined, struct: string, value: string, indent: string) =>
      `value: ${list === undefined ? `${struct}ToTerraform` : `cdktf.listMapper(${list}ToTerraform, false)`}(${value}),\n${indent}isBlock: false,\n${indent}type: "any",`,
  );
  if (fixed.includes('isBlock: true')) throw new Error('the generator wrote a block, but the provider has no blocks');
  return fixed;
};

/** Converts a file for cdktn. Paths out of the constructs folder get one more level. */
const toCdktn = ({ path, content, checkedIn }: GeneratedFile): GeneratedFile => ({
  path: `${constructsFolder}/cdktn/${relative(constructsFolder, path)}`,
  content:
    path === `${constructsFolder}/ephemeral-resource.ts`
      ? `// ${generatedBy}\nexport { type TerraformEphemeralMetaArguments, TerraformEphemeralResource } from 'cdktn';\n`
      : content
          .replaceAll("from 'cdktf'", "from 'cdktn'")
          .replace(/from '(\.\.\/[^']+)'/g, (all, target: string) =>
            relative(constructsFolder, join(dirname(path), target)).startsWith('..') ? `from '../${target}'` : all,
          ),
  checkedIn,
});

async function higherConstructs(): Promise<GeneratedFile[]> {
  const names = (await readdir(join(root, constructsFolder))).filter((name) => name.endsWith('.ts'));
  return Promise.all(
    names.map(async (name) => ({
      path: `${constructsFolder}/${name}`,
      content: `// ${generatedBy}\n${await readFile(join(root, constructsFolder, name), 'utf8')}`,
      checkedIn: false,
    })),
  );
}

/** The step that generates the bindings. */
export const providerBindings: Step = {
  name: 'provider bindings',
  async generate() {
    const { CodeMaker, TerraformProviderGenerator } = loadGenerators();
    const code = new CodeMaker();
    const schema = await schemaJson();
    // Apps require the provider version of the bindings, because `cdktf deploy` needs a version.
    const versions = { [provider.address]: provider.version };
    new TerraformProviderGenerator(code, { ...schema, provider_versions: versions }).generateAll();
    const directory = await mkdtemp(join(tmpdir(), 'ucloud-bindings-'));
    try {
      await code.save(directory);
      const written = join(directory, 'providers/ucloud');
      const extras = await providerExtras(`${constructsFolder}/bindings`);
      const files: GeneratedFile[] = [...extras.files];
      for (const path of await readdir(written, { recursive: true })) {
        if (!path.endsWith('index.ts') || path.endsWith('lazy-index.ts')) continue;
        const source = nestedAttributes(toRunnableModule(await readFile(join(written, path), 'utf8')));
        const content = path === 'index.ts' ? source + extras.index : source;
        files.push({ path: `${constructsFolder}/bindings/${path}`, content, checkedIn: false });
      }
      files.sort((a, b) => (a.path < b.path ? -1 : 1));
      return [...files, ...[...files, ...(await higherConstructs())].map(toCdktn)];
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};
