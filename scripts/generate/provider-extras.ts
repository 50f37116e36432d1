/**
 * Generates the bindings that cdktf's generator lacks: a class for each ephemeral resource, the provider's functions,
 * and the rule for names that constructs need.
 */
import type { Attribute } from '../../provider/framework/attributes.ts';
import { isOptional } from '../../provider/framework/schema.ts';
import type { FunctionDefinition } from '../../provider/framework/types.ts';
import { provider } from '../../provider/provider.ts';
import { schemaOf } from '../../provider/schema/resources.gen.ts';
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

/** Returns the TypeScript type. @throws Error for a type without support */
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
      throw new Error(`${noun}.${own}: the generator supports only text in ephemeral resources`);
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
   * @param scope The parent construct.
   * @param id Its id among the children of \`scope\`.
   * @param config The configuration.
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
    if (variadic) throw new Error(`${name}: the generator does not support functions with any number of arguments`);
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
 * The functions of the provider, as expressions that Terraform (1.8 or newer) evaluates. They belong to a provider,
 * because Terraform knows them only in a stack that requires it. The configuration of the provider itself cannot use
 * them.
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

/** Returns the file with the rule for names. @throws Error if the resources no longer share one rule */
function rulesFile(): string {
  const [first, ...more] = (['vm', 'network', 'prefix', 'ssh_key'] as const).map((noun) => schemaOf(noun).fields.name);
  const { pattern, rule } = first ?? {};
  if (pattern === undefined || rule === undefined || more.some((each) => each?.pattern !== pattern)) {
    throw new Error('VMs, networks, prefixes and SSH keys no longer have one rule for names');
  }
  return `// ${generatedBy}
/** The pattern for names of VMs, networks, prefixes and SSH keys. */
export const namePattern = /${pattern}/;
/** The same rule in words, to follow "must be". */
export const nameRule = '${rule}';
`;
}

/** Returns the files below `bindings`, and their lines in its index. */
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
