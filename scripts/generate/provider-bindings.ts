/**
 * provider/constructs/bindings: a CDKTF class for each resource and data source, by cdktf's own generator, from our
 * schema. Its output is TypeScript for a compiler; a few lines are changed so that Node runs it as it is.
 *
 * provider/constructs/cdktn: the same and the higher constructs once more, for CDK Terrain, which continues cdktf under
 * another name. Its classes have the same names and take the same; objects of one library are strangers to the other,
 * so each needs constructs that import it. Its own generator would bring 133 npm packages to write the same files.
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
const home = 'provider/constructs';

interface CodeMaker {
  save(directory: string): Promise<void>;
}
interface Generators {
  readonly CodeMaker: new () => CodeMaker;
  readonly TerraformProviderGenerator: new (code: CodeMaker, schema: unknown) => { generateAll(): void };
}

/** By its inner path: the package's front door wants a compiler for other languages to be installed. */
function generators(): Generators {
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
 * Whole paths in imports, no parameter properties, no links to a registry where these pages are not, no warning that an
 * id might not be settable: those that can be set find the object.
 */
const runnable = (text: string): string =>
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
 * For apps that write HCL (`new App({ hclOutput: true })`): the generator takes nested attributes for blocks there, which
 * Terraform refuses. What it writes for JSON is right in both.
 */
const nestedAttributes = (text: string): string => {
  const mended = text.replace(
    /value: (?:cdktf\.listMapperHcl\((\w+)ToHclTerraform, false\)|(\w+)ToHclTerraform)\((.*)\),\n( *)isBlock: true,\n *type: "(?:list|struct)",/g,
    (_all, list: string | undefined, struct: string, value: string, indent: string) =>
      `value: ${list === undefined ? `${struct}ToTerraform` : `cdktf.listMapper(${list}ToTerraform, false)`}(${value}),\n${indent}isBlock: false,\n${indent}type: "any",`,
  );
  if (mended.includes('isBlock: true')) throw new Error('the generator made a block, and the provider has none');
  return mended;
};

/** The same source for the library that continues cdktf; what lies outside of the constructs is one folder further up. */
const forTerrain = ({ path, content, checkedIn }: GeneratedFile): GeneratedFile => ({
  path: `${home}/cdktn/${relative(home, path)}`,
  content:
    path === `${home}/ephemeral-resource.ts`
      ? `// ${generatedBy}\nexport { type TerraformEphemeralMetaArguments, TerraformEphemeralResource } from 'cdktn';\n`
      : content
          .replaceAll("from 'cdktf'", "from 'cdktn'")
          .replace(/from '(\.\.\/[^']+)'/g, (all, target: string) =>
            relative(home, join(dirname(path), target)).startsWith('..') ? `from '../${target}'` : all,
          ),
  checkedIn,
});

async function higherConstructs(): Promise<GeneratedFile[]> {
  const names = (await readdir(join(root, home))).filter((name) => name.endsWith('.ts'));
  return Promise.all(
    names.map(async (name) => ({
      path: `${home}/${name}`,
      content: `// ${generatedBy}\n${await readFile(join(root, home, name), 'utf8')}`,
      checkedIn: false,
    })),
  );
}

export const providerBindings: Step = {
  name: 'provider bindings',
  async generate() {
    const { CodeMaker, TerraformProviderGenerator } = generators();
    const code = new CodeMaker();
    const schema = await schemaJson();
    // Apps ask for the version that the bindings were made with; `cdktf deploy` insists on one.
    const versions = { [provider.address]: provider.version };
    new TerraformProviderGenerator(code, { ...schema, provider_versions: versions }).generateAll();
    const directory = await mkdtemp(join(tmpdir(), 'ucloud-bindings-'));
    try {
      await code.save(directory);
      const written = join(directory, 'providers/ucloud');
      const extras = await providerExtras(`${home}/bindings`);
      const files: GeneratedFile[] = [...extras.files];
      for (const path of await readdir(written, { recursive: true })) {
        if (!path.endsWith('index.ts') || path.endsWith('lazy-index.ts')) continue;
        const made = nestedAttributes(runnable(await readFile(join(written, path), 'utf8')));
        const content = path === 'index.ts' ? made + extras.index : made;
        files.push({ path: `${home}/bindings/${path}`, content, checkedIn: false });
      }
      files.sort((a, b) => (a.path < b.path ? -1 : 1));
      return [...files, ...[...files, ...(await higherConstructs())].map(forTerrain)];
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};
