/**
 * The declaration of a resource. Each field is declared once, in the group that defines when it can be set. The schemas
 * of the object, its creation and its update are derived from this; so are openapi.yaml, validation and the provider.
 */
import { type Static, type TObject, type TProperties, type TSchema, type TUnsafe, Type } from '@sinclair/typebox';
import type { Noun } from './fields.ts';

/** The declaration of a resource. */
export interface ResourceDeclaration<
  I extends TProperties,
  M extends TProperties,
  R extends TProperties,
  D extends string,
  O extends string,
  C extends TProperties,
> {
  readonly noun: Noun;
  /** The noun in paths, with hyphens: `ssh-keys`. */
  readonly plural: string;
  readonly description: string;
  /** A record of an event, or a secret, which Terraform does not declare. */
  readonly apiOnly?: boolean;
  /** Fields that only the creation sets. To change such a field, a client replaces the object. */
  readonly immutable: I;
  readonly mutable: M;
  readonly readonly: R;
  /** Fields with a `default`, which the creation gets if the request omits the field. */
  readonly defaulted?: readonly D[];
  /** Fields without a default that a creation may omit. */
  readonly optional?: readonly O[];
  /** Fields with another form in requests, such as nested objects with read-only parts. */
  readonly create?: C;
}

type ItemOf<I extends TProperties, M extends TProperties, R extends TProperties> = Static<TObject<I & M & R>>;
type CreateOf<I extends TProperties, M extends TProperties, D extends string, C extends TProperties> = Omit<
  Static<TObject<I & M>>,
  D | keyof C
> &
  Partial<Omit<Pick<Static<TObject<I & M>>, D & keyof Static<TObject<I & M>>>, keyof C>> &
  Static<TObject<C>>;
/** A creation as its handler receives it: every field with a default is present. */
type BodyOf<Create, D extends string> = Create & Required<Pick<Create, D & keyof Create>>;
type UpdateOf<M extends TProperties, C extends TProperties> = {
  [K in keyof Static<TObject<M>>]?:
    | (K extends keyof Static<TObject<C>> ? Static<TObject<C>>[K] : Static<TObject<M>>[K])
    | null;
};

/** A resource with its derived schemas. */
export interface Resource<Item, Create, Update, Body = unknown> {
  readonly noun: Noun;
  readonly plural: string;
  readonly description: string;
  /** The component name in openapi.yaml: `SshKey`. */
  readonly title: string;
  readonly Item: TUnsafe<Item>;
  readonly Create: TUnsafe<Create>;
  readonly Update: TUnsafe<Update>;
  /** This member exists only as a type, see `BodyType`. */
  readonly body?: Body;
}

const pascal = (noun: string): string =>
  noun.replace(/(^|_)([a-z])/g, (_match, _separator, letter: string) => letter.toUpperCase());

/** Derives the schemas of a resource. @throws Error if `defaulted` and `optional` contradict the fields */
export function resource<
  I extends TProperties,
  M extends TProperties,
  R extends TProperties,
  const D extends string = never,
  const O extends string = never,
  // biome-ignore lint/complexity/noBannedTypes: no override is the empty set of properties
  C extends TProperties = {},
>(
  declaration: ResourceDeclaration<I, M, R, D, O, C>,
): Resource<ItemOf<I, M, R>, CreateOf<I, M, D | O, C>, UpdateOf<M, C>, BodyOf<CreateOf<I, M, D | O, C>, D>> {
  const { immutable, mutable, readonly, create } = declaration;
  const { defaulted = [], optional = [] }: { defaulted?: readonly string[]; optional?: readonly string[] } =
    declaration;
  const title = pascal(declaration.noun);
  const mark = (fields: TProperties, extra: object) =>
    Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, { ...schema, ...extra } as TSchema]));
  const fixed = mark(immutable, { 'x-immutable': true });
  const fields = { ...fixed, ...mutable, ...mark(readonly, { readOnly: true }) };
  const forms = Object.entries(create ?? {});
  const own = (group: TProperties) => Object.fromEntries(forms.filter(([name]) => Object.hasOwn(group, name)));
  const changeable = { ...mutable, ...own(mutable) };
  const creatable: TProperties = { ...fixed, ...changeable, ...mark(own(immutable), { 'x-immutable': true }) };
  for (const name of [...defaulted, ...optional]) {
    const schema = creatable[name];
    if (!schema) throw new Error(`${declaration.noun}: optional field ${name} is not declared`);
    if ((schema.default !== undefined) !== defaulted.includes(name)) {
      throw new Error(
        `${declaration.noun}: ${name} must be in \`defaulted\` if it has a default, else in \`optional\``,
      );
    }
    creatable[name] = Type.Optional(schema);
  }
  const updatable = Object.fromEntries(
    Object.entries(changeable).map(([name, { default: _default, ...schema }]) => [
      name,
      Type.Optional(Type.Union([schema as TSchema, Type.Null()])),
    ]),
  );
  const strict = { additionalProperties: false };
  const itemOptions = { ...strict, title, description: declaration.description };
  return {
    noun: declaration.noun,
    plural: declaration.plural,
    description: declaration.description,
    title,
    Item: Type.Unsafe(
      Type.Object(fields, { ...itemOptions, ...(declaration.apiOnly === true && { 'x-api-only': true }) }),
    ),
    Create: Type.Unsafe(Type.Object(creatable, { ...strict, title: `${title}Create` })),
    Update: Type.Unsafe(
      Type.Object(updatable, {
        ...strict,
        title: `${title}Update`,
        minProperties: 1,
        description:
          'The fields to change. Other fields keep their values. A value replaces the current one completely, also for lists and maps. `null` sets a field to its default, and removes an optional field without one.',
      }),
    ),
  };
}

/** An object in responses. */
export type ItemType<T> = T extends Resource<infer Item, unknown, unknown> ? Item : never;
/** The body of a creation as a client sends it. */
export type CreateType<T> = T extends Resource<unknown, infer Create, unknown> ? Create : never;
/** The body of a creation as its handler receives it, with the defaults of the contract. */
export type BodyType<T> = T extends Resource<unknown, unknown, unknown, infer Body> ? Body : never;
/** The body of an update as a client sends it. */
export type UpdateType<T> = T extends Resource<unknown, unknown, infer Update> ? Update : never;
