/**
 * Generates provider/docs in the layout of Terraform's registry: a page for each resource, data source and function,
 * and the guides.
 */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, normalize, relative } from 'node:path';
import type { Attribute, Attributes } from '../../provider/framework/attributes.ts';
import type { Type } from '../../provider/framework/index.ts';
import { isComputed, isOptional, type Timeouts } from '../../provider/framework/schema.ts';
import type { FunctionDefinition } from '../../provider/framework/types.ts';
import { provider } from '../../provider/provider.ts';
import { replacement } from './replacement.ts';
import { allAttributes, loadAll } from './schema-json.ts';
import { type GeneratedFile, generatedBy, type Step } from './step.ts';
import { troubleshooting } from './troubleshooting.ts';

const examples = 'provider/examples';
const docs = 'provider/docs';

const frontMatter = (title: string, category: string, description: string): string => `---
page_title: ${JSON.stringify(title)}
subcategory: ${JSON.stringify(category)}
description: ${JSON.stringify(description.match(/^[^\n]*?[.](?=\s|$)/)?.[0] ?? description)}
---

<!-- ${generatedBy} -->
`;

function typeText(type: Type): string {
  if (typeof type === 'string') return { bool: 'Boolean', number: 'Number', string: 'String', dynamic: 'Any' }[type];
  switch (type[0]) {
    case 'list':
    case 'set':
    case 'map':
      return `${{ list: 'List', set: 'Set', map: 'Map' }[type[0]]} of ${typeText(type[1])}`;
    case 'tuple':
      return 'Tuple';
    case 'object':
      return 'Object';
  }
}

const nestingText = {
  single: 'Object',
  list: 'List of Objects',
  set: 'Set of Objects',
  map: 'Map of Objects',
} as const;

function defaultText(value: unknown): string {
  if (value === undefined) return '';
  const empty = typeof value === 'object' && value !== null && Object.keys(value).length === 0;
  return empty || value === '' ? '' : ` Default: \`${JSON.stringify(value)}\`.`;
}

/** Returns the line of an attribute, and indented lines for its nested attributes. */
function attributeLines(name: string, attr: Attribute, configurable: boolean, indent = ''): string[] {
  const type = attr.kind === 'plain' ? typeText(attr.type) : nestingText[attr.nesting];
  const marks = [
    type,
    ...(attr.sensitive ? ['Sensitive'] : []),
    ...(attr.writeOnly ? ['Write-only'] : []),
    ...(configurable && attr.requiresReplace ? ['Forces replacement'] : []),
  ];
  const line = `${indent}- \`${name}\` (${marks.join(', ')}) ${attr.description}${configurable ? defaultText(attr.default) : ''}`;
  if (attr.kind === 'plain') return [line];
  const inner = Object.entries(attr.attributes).flatMap(([innerName, innerAttr]) => {
    const own = innerAttr.required ? 'required' : isOptional(innerAttr) ? 'optional' : 'read-only';
    const lines = attributeLines(innerName, innerAttr, configurable, `${indent}  `);
    return configurable
      ? lines.map((text, i) => (i === 0 ? text.replace(/\(([^)]*)\)/, `($1, ${own})`) : text))
      : lines;
  });
  return [line, ...inner];
}

function attributeSections(attributes: Attributes): string {
  const group = (title: string, pick: (attr: Attribute) => boolean, configurable: boolean): string => {
    const lines = Object.entries(attributes)
      .filter(([, attr]) => pick(attr))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, attr]) => attributeLines(name, attr, configurable));
    return lines.length > 0 ? `### ${title}\n\n${lines.join('\n')}\n\n` : '';
  };
  return `## Schema

${group('Required', (attr) => attr.required === true, true)}${group('Optional', isOptional, true)}${group('Read-only', (attr) => isComputed(attr) && !isOptional(attr), false)}`.trimEnd();
}

const read = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(() => undefined);
const code = (language: string, text: string): string => `\`\`\`${language}\n${text.trimEnd()}\n\`\`\``;

interface Definition {
  readonly description: string;
  readonly attributes: Attributes;
  readonly timeouts?: Timeouts;
}

const importCommand = (type: string): Promise<string> => readFile(`${examples}/resources/${type}/import.sh`, 'utf8');

/** Converts the import command into an `import` block. */
async function importBlock(type: string): Promise<string> {
  const [, to, id] = /^terraform import (\S+) (\S+)$/m.exec(await importCommand(type)) ?? [];
  if (to === undefined) throw new Error(`${examples}/resources/${type}/import.sh imports nothing`);
  return `import {\n  to = ${to}\n  id = ${JSON.stringify(id)}\n}`;
}

async function resourcePage(noun: string, definition: Definition): Promise<GeneratedFile> {
  const type = `${provider.name}_${noun}`;
  const example = await read(`${examples}/resources/${type}/resource.tf`);
  if (example === undefined) throw new Error(`${type} has no example in ${examples}/resources/${type}/resource.tf`);
  const notes = await read(`${examples}/resources/${type}/notes.md`);
  const content = `${frontMatter(`${type} Resource`, '', definition.description)}
# ${type} (Resource)

${definition.description}

## Example Usage

${code('terraform', example)}

${attributeSections(allAttributes(definition))}
${notes === undefined ? '' : `\n## Notes\n\n${notes.trimEnd()}\n`}
## Import

By name${'project' in definition.attributes ? ', by project and name (`acme/web`),' : ','} or by id, with a block in the configuration:

${code('terraform', await importBlock(type))}

or on the command line:

${code('sh', await importCommand(type))}
${definition.timeouts === undefined ? '' : '\nThe next apply adds arguments that only Terraform knows, such as `timeouts`, to the state, as an update in place.\n'}`;
  return { path: `${docs}/resources/${noun}.md`, content, checkedIn: true };
}

async function dataSourcePage(noun: string, definition: Definition): Promise<GeneratedFile> {
  const type = `${provider.name}_${noun}`;
  const example = await read(`${examples}/data-sources/${type}/data-source.tf`);
  if (example === undefined)
    throw new Error(`${type} has no example in ${examples}/data-sources/${type}/data-source.tf`);
  // Terraform never replaces a data source.
  const asked = Object.fromEntries(
    Object.entries(allAttributes(definition)).map(([name, attr]) => [name, { ...attr, requiresReplace: false }]),
  );
  const content = `${frontMatter(`${type} Data Source`, '', definition.description)}
# ${type} (Data Source)

${definition.description}

## Example Usage

${code('terraform', example)}

${attributeSections(asked)}
`;
  return { path: `${docs}/data-sources/${noun}.md`, content, checkedIn: true };
}

async function ephemeralPage(noun: string, definition: Definition): Promise<GeneratedFile> {
  const type = `${provider.name}_${noun}`;
  const example = await read(`${examples}/ephemeral-resources/${type}/ephemeral-resource.tf`);
  if (example === undefined)
    throw new Error(`${type} has no example in ${examples}/ephemeral-resources/${type}/ephemeral-resource.tf`);
  const content = `${frontMatter(`${type} Ephemeral Resource`, '', definition.description)}
# ${type} (Ephemeral Resource)

${definition.description}

## Example Usage

${code('terraform', example)}

${attributeSections(definition.attributes)}
`;
  return { path: `${docs}/ephemeral-resources/${noun}.md`, content, checkedIn: true };
}

async function functionPage(name: string, definition: FunctionDefinition): Promise<GeneratedFile> {
  const example = await read(`${examples}/functions/${name}/function.tf`);
  if (example === undefined) throw new Error(`${name} has no example in ${examples}/functions/${name}/function.tf`);
  const parameters = [...definition.parameters, ...(definition.variadic ? [definition.variadic] : [])];
  const signature = parameters
    .map((parameter) => `${parameter.name} ${typeText(parameter.type).toLowerCase()}`)
    .join(', ');
  const content = `${frontMatter(`${name} Function`, '', definition.summary)}
# ${name} (Function)

${definition.description}

## Example Usage

${code('terraform', example)}

## Signature

${code('text', `${name}(${signature}) ${typeText(definition.returns).toLowerCase()}`)}

## Arguments

${parameters.map(({ name: own, type, description }, i) => `${i + 1}. \`${own}\` (${typeText(type)}) ${description}`).join('\n')}
`;
  return { path: `${docs}/functions/${name}.md`, content, checkedIn: true };
}

const guides = 'docs/guides';

async function guideNames(): Promise<{ name: string; title: string }[]> {
  const names = (await readdir(guides)).filter((name) => name.endsWith('.md')).toSorted();
  return Promise.all(
    names.map(async (name) => {
      const [, title = ''] = /^# (.*)$/m.exec(await readFile(`${guides}/${name}`, 'utf8')) ?? [];
      return { name, title };
    }),
  );
}

async function indexPage(): Promise<GeneratedFile> {
  const example = await read(`${examples}/provider/provider.tf`);
  const quickstart = await read(`${examples}/quickstart/main.tf`);
  const content = `${frontMatter('ucloud Provider', '', provider.description)}
# ucloud Provider

${provider.description}

## Example Usage

${code('terraform', example ?? '')}

Two VMs on a network of their own, from nothing:

${code('terraform', quickstart ?? '')}

${attributeSections(provider.attributes)}

## Guides

${(await guideNames()).map(({ name, title }) => `- [${title}](guides/${name})`).join('\n')}
- [Effects of a replacement](guides/replacement.md)
- [When Terraform reports an error](guides/troubleshooting.md)
`;
  return { path: `${docs}/index.md`, content, checkedIn: true };
}

/** Returns a guide with its links adapted to the registry's layout, without the comments for the test that runs it. */
async function guidePage(name: string): Promise<GeneratedFile> {
  const text = await readFile(`${guides}/${name}`, 'utf8');
  const [, title = '', first = ''] = /^# (.*)\n+(.*)/.exec(text) ?? [];
  const path = `${docs}/guides/${name}`;
  const moved = (target: string): string => {
    const old = normalize(join(guides, target));
    const now = dirname(old) === guides && old.endsWith('.md') ? old.replace(guides, `${docs}/guides`) : old;
    return relative(dirname(path), now);
  };
  const body = text
    .replace(/^<!-- .* -->\n+/gm, '')
    .replace(/\]\((?!https?:|#)([^)#\s]+)/g, (_link, target: string) => `](${moved(target)}`);
  return { path, content: `${frontMatter(title, '', first)}\n${body}`, checkedIn: true };
}

/** The step that generates the provider's documentation. */
export const providerDocs: Step = {
  name: 'provider docs',
  async generate() {
    const pages = [
      indexPage(),
      ...(await guideNames()).map(({ name }) => guidePage(name)),
      troubleshooting(
        `${docs}/guides/troubleshooting.md`,
        frontMatter(
          'When Terraform reports an error',
          '',
          'The error messages of the ucloud provider, their causes and remedies.',
        ),
      ),
      replacement(
        `${docs}/guides/replacement.md`,
        frontMatter(
          'Effects of a replacement',
          '',
          'The changes that replace a resource, and their effects on other resources.',
        ),
      ),
      ...(await loadAll(provider.resources)).map(([noun, definition]) => resourcePage(noun, definition)),
      ...(await loadAll(provider.dataSources)).map(([noun, definition]) => dataSourcePage(noun, definition)),
      ...(await loadAll(provider.ephemeral)).map(([noun, definition]) => ephemeralPage(noun, definition)),
      ...(await loadAll(provider.functions)).map(([name, definition]) =>
        functionPage(name, definition as unknown as FunctionDefinition),
      ),
    ];
    return Promise.all(pages);
  },
};
