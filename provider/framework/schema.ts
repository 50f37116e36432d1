/**
 * Converts attributes for the protocol: to the value type of an object, and to its schema message. The checks of definitions
 * are also here, so a mistake causes a clear message at the first use of the schema, and no refusal by Terraform.
 */
import { MARKDOWN, NESTING, type Schema, type SchemaAttribute, SchemaObject } from '../protocol/messages.ts';
import { encodeValue } from '../protocol/msgpack.ts';
import { typeToJson } from '../protocol/types.ts';
import { ValueError } from '../protocol/value-error.ts';
import { isWhollyKnown, type Type, type Value } from '../protocol/values.ts';
import { type Encodable, encode } from '../protocol/wire.ts';
import { type Attribute, type Attributes, attribute } from './attributes.ts';
import { parseDuration } from './duration.ts';

export type ObjectType = readonly ['object', Readonly<Record<string, Type>>];

/** The purpose of a schema: only managed resources have write-only attributes. */
export type SchemaKind = 'resource' | 'data source' | 'ephemeral resource' | 'provider';

/** The types by attribute, because each comparison of values needs them. */
const attributeTypes = new WeakMap<Attribute, Type>();
const objectTypes = new WeakMap<Attributes, ObjectType>();

export function attributeType(attr: Attribute): Type {
  if (attr.kind === 'plain') return attr.type;
  const known = attributeTypes.get(attr);
  if (known) return known;
  const object = objectType(attr.attributes);
  const type: Type = attr.nesting === 'single' ? object : [attr.nesting, object];
  attributeTypes.set(attr, type);
  return type;
}

export function objectType(attributes: Attributes): ObjectType {
  const known = objectTypes.get(attributes);
  if (known) return known;
  const members = Object.entries(attributes).map(([name, attr]) => [name, attributeType(attr)] as const);
  const type: ObjectType = ['object', Object.fromEntries(members)];
  objectTypes.set(attributes, type);
  return type;
}

/** A default makes an attribute optional and computed. */
export function isOptional(attr: Attribute): boolean {
  return attr.optional === true || attr.default !== undefined;
}
export function isComputed(attr: Attribute): boolean {
  return attr.computed === true || attr.default !== undefined;
}
/** Returns true if a configuration may set the attribute. */
export function isConfigurable(attr: Attribute): boolean {
  return attr.required === true || isOptional(attr);
}

/** Returns why a default is wrong: a configuration must be able to contain the same value. */
function wrongDefault(attr: Attribute, standard: Value): string | undefined {
  try {
    encodeValue(attributeType(attr), standard);
  } catch (error) {
    if (error instanceof ValueError) return error.message;
    throw error;
  }
  if (!isWhollyKnown(standard)) return 'it is unknown';
  const wrong = attr.validate?.(standard);
  return typeof wrong === 'object' ? wrong[0]?.problem : wrong;
}

/** Checks attributes. @throws Error that names the attribute that breaks a rule of Terraform or of the framework */
export function checkAttributes(kind: SchemaKind, attributes: Attributes, where: string, inSet = false): void {
  for (const [name, attr] of Object.entries(attributes)) {
    const refuse = (reason: string): never => {
      throw new Error(`the attribute ${where}.${name} ${reason}`);
    };
    if (!/^[a-z][a-z0-9_]*$/.test(name)) refuse('must have a name of lower-case letters, digits and underscores');
    if (attr.required && (isOptional(attr) || isComputed(attr))) {
      refuse('is required and so can be neither optional nor computed nor have a default');
    }
    if (!attr.required && !isOptional(attr) && !isComputed(attr)) refuse('must be required, optional or computed');
    if (attr.volatile && !isComputed(attr)) refuse('is volatile and so must be computed');
    if (kind !== 'resource' && attr.default !== undefined) refuse(`cannot have a default in a ${kind}`);
    if (kind === 'provider' && attr.computed) refuse('cannot be computed: a provider has a configuration and no state');
    if (attr.default !== undefined) {
      const wrong = wrongDefault(attr, attr.default as Value);
      if (wrong !== undefined) refuse(`has a default that is refused: ${wrong}`);
    }
    if (attr.writeOnly) {
      if (kind !== 'resource') refuse(`cannot be write-only in a ${kind}`);
      if (isComputed(attr)) refuse('cannot be write-only and computed');
      if (inSet) refuse('cannot be write-only inside a set');
      if (attr.requiresReplace)
        refuse('is write-only, so that its changes are not seen; require replacement elsewhere');
    }
    if (inSet && attr.requiresReplace) refuse('cannot require replacement inside a set; let the set require it');
    if (inSet && attr.kind === 'plain' && JSON.stringify(attr.type).includes('"dynamic"')) {
      refuse('cannot be dynamic inside a set');
    }
    if (attr.kind === 'nested')
      checkAttributes(kind, attr.attributes, `${where}.${name}`, inSet || attr.nesting === 'set');
  }
}

function attributeMessage(name: string, attr: Attribute): Encodable<typeof SchemaAttribute> {
  return {
    name,
    ...(attr.kind === 'plain'
      ? { type: typeToJson(attr.type) }
      : {
          nested_type: encode(SchemaObject, {
            attributes: attributeMessages(attr.attributes),
            nesting: NESTING[attr.nesting],
          }),
        }),
    description: attr.description,
    description_kind: MARKDOWN,
    required: attr.required === true,
    optional: isOptional(attr),
    computed: isComputed(attr),
    sensitive: attr.sensitive === true,
    write_only: attr.writeOnly === true,
    deprecated: attr.deprecated !== undefined,
  };
}

function attributeMessages(attributes: Attributes): Encodable<typeof SchemaAttribute>[] {
  return Object.entries(attributes).map(([name, attr]) => attributeMessage(name, attr));
}

export interface SchemaSource {
  description: string;
  attributes: Attributes;
  version?: number;
  deprecated?: string;
}

export function schemaMessage(source: SchemaSource): Encodable<typeof Schema> {
  return {
    version: source.version ?? 0,
    block: {
      version: source.version ?? 0,
      attributes: attributeMessages(source.attributes),
      description: source.description,
      description_kind: MARKDOWN,
      deprecated: source.deprecated !== undefined,
    },
  };
}

export type Timeouts = Readonly<Partial<Record<'create' | 'read' | 'update' | 'delete', string>>>;

/** Returns the attribute `timeouts`, which limits the time of each operation. */
export function timeoutsAttribute(timeouts: Timeouts): Attribute {
  const operations = Object.entries(timeouts).map(([operation, standard]) => {
    if (parseDuration(standard) === undefined) throw new Error(`the timeout "${standard}" is not a duration`);
    return [
      operation,
      attribute.string({
        description: `Maximum time to ${operation}, such as \`30s\`, \`20m\` or \`1h30m\`. Default: \`${standard}\`.`,
        optional: true,
        validate: (text) =>
          parseDuration(text) === undefined
            ? `"${text}" is not a duration: write a number and a unit, such as "30s", "20m" or "1h30m" (at most 596h).`
            : undefined,
      }),
    ] as const;
  });
  return attribute.single(Object.fromEntries(operations), {
    description: 'Maximum times of operations. Terraform stops waiting after them.',
    optional: true,
  });
}
