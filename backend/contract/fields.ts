/** The building blocks that resource schemas share. Each is written here once, with its rule and its words. */
import { type SchemaOptions, Type } from '@sinclair/typebox';

/**
 * `x-rule` says in words what a `pattern` wants; it completes the sentence "must be …". People read it wherever a value
 * is refused: in answers of the API and in Terraform's diagnostics. `x-at-restart` says that a change waits for the
 * next start of the guest.
 */

/** What an id starts with, by kind of object. */
export const idPrefixes = {
  project: 'prj',
  token: 'tok',
  ssh_key: 'key',
  image: 'img',
  prefix_pool: 'pool',
  prefix: 'pfx',
  network: 'net',
  vm: 'vm',
  host: 'host',
  operation: 'op',
  event: 'evt',
  audit_record: 'aud',
  terraform_state: 'tfs',
} as const;
export type Noun = keyof typeof idPrefixes;

declare const brand: unique symbol;
/** The id of an object of one kind. Neither another string nor the id of another kind can take its place. */
export type Id<N extends Noun> = string & { readonly [brand]: N };

/** Returns the id that examples use. */
export const exampleId = <N extends Noun>(noun: N): Id<N> => `${idPrefixes[noun]}-0123456789abcdef` as Id<N>;

const idPattern = (noun: Noun) => `^${idPrefixes[noun]}-[0-9a-hjkmnp-tv-z]{16}$`;

/** The object's own id. */
export const IdOf = <N extends Noun>(noun: N) =>
  Type.Unsafe<Id<N>>(
    Type.String({
      pattern: idPattern(noun),
      readOnly: true,
      description: 'Identifies the object for as long as it exists; chosen by ucloud.',
    }),
  );

/** A field that holds the id of another object. */
export const Reference = <N extends Noun>(noun: N, options: SchemaOptions = {}) =>
  Type.Unsafe<Id<N>>(Type.String({ pattern: idPattern(noun), 'x-reference': noun, ...options }));

export const namePattern = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
export const Name = (options: SchemaOptions = {}) =>
  Type.String({
    pattern: namePattern,
    maxLength: 63,
    'x-rule': '1 to 63 lower-case letters, digits and inner hyphens',
    description:
      'Name, unique among objects of this kind in the project: 1 to 63 lower-case letters, digits and inner hyphens (an RFC 1123 label).',
    ...options,
  });

// Written with `propertyNames`, not `patternProperties` as TypeBox would: generators of clients make a map from it.
export const Labels = Type.Unsafe<Record<string, string>>({
  type: 'object',
  propertyNames: {
    pattern: '^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$',
    'x-rule':
      '1 to 63 letters, digits and inner `-`, `_` or `.`, optionally after a DNS name and a slash (`example.net/team`)',
  },
  additionalProperties: {
    type: 'string',
    pattern: '^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$',
    maxLength: 63,
    'x-rule': 'at most 63 letters, digits and inner `-`, `_` or `.`',
  },
  default: {},
  maxProperties: 64,
  description:
    'Key-value pairs to select objects by. At most 64; keys and values follow the syntax of Kubernetes labels.',
});

export const Description = Type.String({
  maxLength: 1024,
  pattern: '^[^\\x00-\\x08\\x0b-\\x1f\\x7f]*$',
  'x-rule': 'text without control characters other than tabs and line breaks',
  default: '',
  description: 'Free text for people, without control characters.',
});

/** A whole number from 0 on, as large as JSON, TypeScript and Terraform carry it without loss: 2^53 - 1. */
export const Whole = (options: SchemaOptions = {}) =>
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, ...options });

/** An amount of bytes with its unit, such as `512MiB` or `20GiB`. Answers use the largest unit that fits exactly. */
export const Size = (options: SchemaOptions = {}) =>
  Type.String({
    format: 'size',
    pattern: '^[1-9][0-9]{0,8}(MiB|GiB|TiB)$',
    'x-rule': 'a whole number with its unit, MiB, GiB or TiB, such as `512MiB` or `2GiB`',
    ...options,
  });

export const Ipv6 = (options: SchemaOptions = {}) => Type.String({ format: 'ipv6', maxLength: 45, ...options });

/** An IPv6 prefix in CIDR notation. Answers use the form of RFC 5952. */
export const Ipv6Prefix = (options: SchemaOptions = {}) =>
  Type.String({ format: 'ipv6-prefix', maxLength: 49, ...options });

export const MacAddress = (options: SchemaOptions = {}) =>
  Type.String({
    format: 'mac',
    pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$',
    'x-rule': 'six octets in lower-case hex, such as `02:00:5e:10:00:01`',
    ...options,
  });

export const Timestamp = (options: SchemaOptions = {}) => Type.String({ format: 'date-time', ...options });

export const DeleteProtection = Type.Boolean({
  default: false,
  description: 'While true, deletion is refused.',
});

/** Fields that every object has and nobody sets. */
export const common = {
  created_at: Timestamp({ readOnly: true, description: 'When it was created (RFC 3339, UTC).' }),
  updated_at: Timestamp({
    readOnly: true,
    'x-api-only': true,
    description: 'When its declaration last changed (RFC 3339, UTC).',
  }),
  revision: Whole({
    readOnly: true,
    'x-api-only': true,
    description:
      'Revision of the database at which the object, its observed state included, last changed. Send it as `after` to wait for the next change.',
  }),
};

/** Closed set of strings, as a JSON Schema enum (TypeBox unions of literals make clumsy documents). */
export const Enum = <const V extends readonly string[]>(values: V, options: SchemaOptions = {}) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values], ...options });
