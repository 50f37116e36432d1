/**
 * Bindings that cdktf's generator does not make: a class for each ephemeral resource of the provider, its functions, and
 * the rule for names, for constructs that make names of other names.
 */
import type { Attribute } from '../../provider/framework/attributes.ts';
import { isOptional } from '../../provider/framework/schema.ts';
import type { FunctionDefinition } from '../../provider/framework/types.ts';
import { provider } from '../../provider/provider.ts';
import { schemaOf } from '../../provider/resources/schema.gen.ts';
import { loadAll } from './schema-json.ts';
import { type GeneratedFile, generatedBy } from './step.ts';

const camel = (name: string): string => name.replace(/_(\w)/g, (_all, letter: string) => letter.toUpperCase());
const pascal = (name: string): string => camel(`_${name}`);
const comment = (indent: string, ...lines: string[]): string =>
  [
    `${indent}/**`,
    ...lines.flatMap((line) => line.split('\n')).map((line) => `${indent} * ${line}`),
    `${indent} */`,
  ].join('\n');

/** @throws Error where the API has something for which there is no code here yet */
function typescript(what: string, type: unknown): 'string' | 'number' {
  if (type === 'string' || type === 'number') return type;
  throw new Error(
    `${what} is of type ${JSON.stringify(type)}: scripts/generate/provider-extras.ts does not know it yet`,
  );
}

interface Ephemeral {
  readonly description: string;
  readonly attributes: Readonly<Record<string, Attribute>>;
}

function ephemeralClass(noun: string, { description, attributes }: Ephemeral): string {
  const name = `Ephemeral${pascal(provider.name)}${pascal(noun)}`;
  const all = Object.entries(attributes);
  const typeOf = (own: string, attr: Attribute) =>
    typescript(`${noun}.${own}`, attr.kind === 'plain' ? attr.type : attr.nesting);
  const configurable = all.filter(([, attr]) => attr.required || isOptional(attr));
  const option = ([own, attr]: [string, Attribute]) =>
    `${comment('  ', attr.description)}\n  readonly ${camel(own)}${attr.required ? '' : '?'}: ${typeOf(own, attr)};`;
  const getter = ([own, attr]: [string, Attribute]) => {
    if (typeOf(own, attr) !== 'string')
      throw new Error(`${noun}.${own}: only text can be read of ephemeral resources yet`);
    return `${comment('  ', attr.description)}\n  get ${camel(own)}(): string {\n    return this.getStringAttribute('${own}');\n  }`;
  };
  return `// ${generatedBy}
import type { Construct } from 'constructs';
import { type TerraformEphemeralMetaArguments, TerraformEphemeralResource } from '../../ephemeral-resource.ts';

export interface ${name}Config extends TerraformEphemeralMetaArguments {
${configurable.map(option).join('\n')}
}

${comment('', description)}
export class ${name} extends TerraformEphemeralResource {
  static readonly tfResourceType = '${provider.name}_${noun}';
  readonly #config: ${name}Config;

  /**
   * @param scope The construct that it belongs to.
   * @param id Its name among the children of \`scope\`.
   * @param config What it takes.
   */
  constructor(scope: Construct, id: string, config: ${name}Config${configurable.some(([, attr]) => attr.required) ? '' : ' = {}'}) {
    super(scope, id, {
      ...config,
      terraformResourceType: '${provider.name}_${noun}',
      terraformGeneratorMetadata: { providerName: '${provider.name}', providerVersion: '${provider.version}' },
    });
    this.#config = config;
  }

${all
  .filter(([, attr]) => attr.computed)
  .map(getter)
  .join('\n\n')}

  protected override synthesizeAttributes(): Record<string, unknown> {
    return {
${configurable.map(([own]) => `      ${own}: this.#config.${camel(own)},`).join('\n')}
    };
  }

  protected override synthesizeHclAttributes(): Record<string, unknown> {
    const attribute = (value: unknown, storageClassType: string) =>
      value === undefined ? undefined : { value, isBlock: false, type: 'simple', storageClassType };
    return {
${configurable.map(([own, attr]) => `      ${own}: attribute(this.#config.${camel(own)}, '${typeOf(own, attr)}'),`).join('\n')}
    };
  }
}
`;
}

function functionsFile(functions: readonly [string, FunctionDefinition][]): string {
  const members = functions.map(([name, { parameters, variadic, returns, description }]) => {
    if (variadic) throw new Error(`${name} takes any number of arguments: not known here yet`);
    const typed = parameters.map((each) => `${each.name}: ${typescript(`${name}.${each.name}`, each.type)}`).join(', ');
    const result = typescript(`the result of ${name}`, returns);
    const doc = comment('    ', description, ...parameters.map((each) => `@param ${each.name} ${each.description}`));
    const make = `Token.as${pascal(result)}(called('${name}', [${parameters.map((each) => each.name).join(', ')}]))`;
    return `${doc}\n    ${camel(name)}: (${typed}): ${result} => ${make},`;
  });
  return `// ${generatedBy}
import { call, Token } from 'cdktf';
import type { ${pascal(provider.name)}Provider } from '../provider/index.ts';

/**
 * The functions of the provider, as expressions that Terraform (1.8 or newer) evaluates. Of a provider, since Terraform
 * knows them only where the stack requires it. Not for the configuration of the provider itself.
 */
export function functionsOf(provider: ${pascal(provider.name)}Provider) {
  const called = (name: string, args: (string | number)[]) =>
    call(\`provider::\${provider.terraformResourceType}::\${name}\`, args);
  return {
${members.join('\n')}
  };
}
`;
}

/** @throws Error where constructs could no longer go by one rule */
function rulesFile(): string {
  const [first, ...more] = (['vm', 'network', 'prefix', 'ssh_key'] as const).map((noun) => schemaOf(noun).fields.name);
  const { pattern, rule } = first ?? {};
  if (pattern === undefined || rule === undefined || more.some((each) => each?.pattern !== pattern)) {
    throw new Error('VMs, networks, prefixes and SSH keys no longer have one rule for names');
  }
  return `// ${generatedBy}
/** Names of VMs, networks, prefixes and SSH keys. */
export const namePattern = /${pattern}/;
/** The same in words, after "must be". */
export const nameRule = '${rule}';
`;
}

/** Files below `bindings`, and the lines that its index has for them. */
export async function providerExtras(bindings: string): Promise<{ files: GeneratedFile[]; index: string }> {
  const ephemeral = (await loadAll(provider.ephemeral)) as unknown as [string, Ephemeral][];
  const functions = (await loadAll(provider.functions)) as unknown as [string, FunctionDefinition][];
  const folder = (noun: string) => `ephemeral-${provider.name}-${noun.replaceAll('_', '-')}`;
  const file = (name: string, content: string): GeneratedFile => ({
    path: `${bindings}/${name}/index.ts`,
    content,
    checkedIn: false,
  });
  return {
    files: [
      ...ephemeral.map(([noun, definition]) => file(folder(noun), ephemeralClass(noun, definition))),
      file('provider-functions', functionsFile(functions)),
      file('rules', rulesFile()),
    ],
    index: [
      ...ephemeral.map(
        ([noun]) => `export * as ephemeral${pascal(provider.name)}${pascal(noun)} from './${folder(noun)}/index.ts';`,
      ),
      "export * as providerFunctions from './provider-functions/index.ts';",
      '',
    ].join('\n'),
  };
}
