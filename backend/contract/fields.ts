/** The schemas that resources share, each with its rule and its description. */
import { type SchemaOptions, Type } from '@sinclair/typebox';

/**
 * `x-rule` describes a `pattern`, and completes the sentence "must be …". It appears in errors of the API and in
 * Terraform's diagnostics. `x-at-restart` marks a field whose change takes effect at the next start of the guest.
 */

/** The prefix of ids, by kind of object. */
export const idPrefixes = {
  project: 'prj',
  token: 'tok',
  ssh_key: 'key',
  image: 'img',
  prefix_pool: 'pool',
  prefix: 'pfx',
  network: 'net',
  prefix_route: 'prt',
  vm: 'vm',
  host: 'host',
  operation: 'op',
  event: 'evt',
  audit_record: 'aud',
  terraform_state: 'tfs',
  volume: 'vol',
  volume_attachment: 'vat',
  snapshot: 'snap',
  snapshot_schedule: 'sched',
  file: 'file',
  file_server: 'fsrv',
  upload: 'upl',
  storage_pool: 'stp',
  bgp_peer: 'bgp',
  security_group: 'sg',
  legal_entity: 'ent',
  billing_account: 'acct',
  product: 'prod',
  price: 'price',
  order: 'ord',
  bill: 'bill',
  payment: 'pay',
  payment_source: 'psrc',
  budget: 'bdg',
  vat_rate: 'vatr',
} as const;
/** A kind of object. */
export type Noun = keyof typeof idPrefixes;

declare const brand: unique symbol;
/** The id of an object of one kind. Other strings and ids of other kinds are not assignable to it. */
export type Id<N extends Noun> = string & { readonly [brand]: N };

/** Returns the id that examples use. */
export const exampleId = <N extends Noun>(noun: N): Id<N> => `${idPrefixes[noun]}-0123456789abcdef` as Id<N>;

const idPattern = (noun: Noun) => `^${idPrefixes[noun]}-[0-9a-hjkmnp-tv-z]{16}$`;

/** Returns the schema of the object's own id. */
export const IdOf = <N extends Noun>(noun: N) =>
  Type.Unsafe<Id<N>>(
    Type.String({
      pattern: idPattern(noun),
      readOnly: true,
      description: 'Id of the object, chosen by ucloud. It never changes.',
    }),
  );

/** Returns the schema of the id of another object. */
export const Reference = <N extends Noun>(noun: N, options: SchemaOptions = {}) =>
  Type.Unsafe<Id<N>>(Type.String({ pattern: idPattern(noun), 'x-reference': noun, ...options }));

/** The pattern of names: an RFC 1123 label. */
export const namePattern = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
/** Returns the schema of a name. */
export const Name = (options: SchemaOptions = {}) =>
  Type.String({
    pattern: namePattern,
    maxLength: 63,
    'x-rule': '1 to 63 lower-case letters, digits and inner hyphens',
    description:
      'Name, unique among objects of this kind in the project: 1 to 63 lower-case letters, digits and inner hyphens (an RFC 1123 label).',
    ...options,
  });

/** The schema of a key of labels. */
export const LabelKey = Type.String({
  pattern: '^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$',
  'x-rule':
    '1 to 63 letters, digits and inner `-`, `_` or `.`, optionally after a DNS name and a slash (`example.net/team`)',
});

/** Returns the schema of a label selector. */
export const LabelSelector = (options: SchemaOptions = {}) =>
  Type.String({ format: 'label-selector', minLength: 1, maxLength: 1024, ...options });

// The schema uses `propertyNames`, because generators of clients make a map from it. TypeBox would use
// `patternProperties`.
export const Labels = Type.Unsafe<Record<string, string>>({
  type: 'object',
  propertyNames: { pattern: LabelKey.pattern, 'x-rule': LabelKey['x-rule'] },
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

/** The schema of a description. */
export const Description = Type.String({
  maxLength: 1024,
  pattern: '^[^\\x00-\\x08\\x0b-\\x1f\\x7f]*$',
  'x-rule': 'text without control characters other than tabs and line breaks',
  default: '',
  description: 'Text for people, without control characters.',
});

/** Returns the schema of a whole number from 0 to 2^53 - 1, which JSON, TypeScript and Terraform represent exactly. */
export const Whole = (options: SchemaOptions = {}) =>
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, ...options });

/**
 * Returns the schema of a number of bytes with a unit, such as `512MiB`. Responses use the largest unit that is exact.
 */
export const Size = (options: SchemaOptions = {}) =>
  Type.String({
    format: 'size',
    pattern: '^[1-9][0-9]{0,8}(MiB|GiB|TiB)$',
    'x-rule': 'a whole number with its unit, MiB, GiB or TiB, such as `512MiB` or `2GiB`',
    ...options,
  });

/** Returns the schema of an IPv6 address. */
export const Ipv6 = (options: SchemaOptions = {}) => Type.String({ format: 'ipv6', maxLength: 45, ...options });

/** Returns the schema of an IPv6 prefix in CIDR notation. Responses use the form of RFC 5952. */
export const Ipv6Prefix = (options: SchemaOptions = {}) =>
  Type.String({ format: 'ipv6-prefix', maxLength: 49, ...options });

/** Returns the schema of a MAC address. */
export const MacAddress = (options: SchemaOptions = {}) =>
  Type.String({
    format: 'mac',
    pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$',
    'x-rule': 'six octets in lower-case hex, such as `02:00:5e:10:00:01`',
    ...options,
  });

/** Returns the schema of a time (RFC 3339). */
export const Timestamp = (options: SchemaOptions = {}) => Type.String({ format: 'date-time', ...options });

/** The schema of `delete_protection`. */
export const DeleteProtection = Type.Boolean({
  default: false,
  description: 'While true, the API refuses to delete the object.',
});

/** The read-only fields of every object. */
export const common = {
  created_at: Timestamp({ readOnly: true, description: 'Time of the creation (RFC 3339, UTC).' }),
  updated_at: Timestamp({
    readOnly: true,
    'x-api-only': true,
    description: 'Time of the last change of the declaration (RFC 3339, UTC).',
  }),
  revision: Whole({
    readOnly: true,
    'x-api-only': true,
    description:
      'Revision of the last change of the object, including its observed state. Send it as `after` to wait for the next change.',
  }),
};

/** Returns the schema of a set of strings as an enum. TypeBox would make a union of literals. */
export const Enum = <const V extends readonly string[]>(values: V, options: SchemaOptions = {}) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values], ...options });

/** Returns the schema of an amount of money, or of another exact decimal number. */
export const Decimal = (options: SchemaOptions = {}) =>
  Type.String({
    pattern: '^-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,8})?$',
    'x-rule': 'a decimal number such as `42.10`, with at most 12 digits before and 8 after the point',
    ...options,
  });

/** Returns the schema of an amount that is not negative. */
export const Amount = (options: SchemaOptions = {}) =>
  Decimal({
    pattern: '^(0|[1-9][0-9]{0,11})(\\.[0-9]{1,8})?$',
    'x-rule':
      'a decimal number such as `42.10` that is not negative, with at most 12 digits before and 8 after the point',
    ...options,
  });

/** Returns the schema of a currency (ISO 4217). */
export const Currency = (options: SchemaOptions = {}) =>
  Type.String({
    format: 'currency',
    pattern: '^[A-Z]{3}$',
    'x-rule': 'a currency of ISO 4217, such as `EUR`',
    ...options,
  });
