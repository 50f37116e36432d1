/**
 * How a resource is declared: each field once, in the group that says who may set it and when. The schemas of the
 * object, of its creation and of its update are derived, and with them openapi.yaml, validation, and the provider.
 */
import { type Static, type TObject, type TProperties, type TSchema, type TUnsafe, Type } from '@sinclair/typebox';
import type { Noun } from './fields.ts';

export interface ResourceDeclaration<
  I extends TProperties,
  M extends TProperties,
  R extends TProperties,
  D extends string,
  O extends string,
  C extends TProperties,
> {
  readonly noun: Noun;
  /** The noun in paths, hyphens for spaces: `ssh-keys`. */
  readonly plural: string;
  readonly description: string;
  /** Set at creation and never again: changing one replaces the object. */
  readonly immutable: I;
  readonly mutable: M;
  readonly readonly: R;
  /** Fields with a `default`, which a creation receives where the request leaves the field out. */
  readonly defaulted?: readonly D[];
  /** Fields without a default that a creation may leave out. */
  readonly optional?: readonly O[];
  /** Fields whose form at creation differs from the one in answers (nested objects with read-only parts). */
  readonly create?: C;
}

type ItemOf<I extends TProperties, M extends TProperties, R extends TProperties> = Static<TObject<I & M & R>>;
type CreateOf<I extends TProperties, M extends TProperties, D extends string, C extends TProperties> = Omit<
  Static<TObject<I & M>>,
  D | keyof C
> &
  Partial<Omit<Pick<Static<TObject<I & M>>, D & keyof Static<TObject<I & M>>>, keyof C>> &
  Static<TObject<C>>;
/** A creation as handlers receive it: every field with a default is present. */
type BodyOf<Create, D extends string> = Create & Required<Pick<Create, D & keyof Create>>;
type UpdateOf<M extends TProperties> = { [K in keyof Static<TObject<M>>]?: Static<TObject<M>>[K] | null };

export interface Resource<Item, Create, Update, Body = unknown> {
  readonly noun: Noun;
  readonly plural: string;
  readonly description: string;
  /** Component name in openapi.yaml: `SshKey`. */
  readonly title: string;
  readonly Item: TUnsafe<Item>;
  readonly Create: TUnsafe<Create>;
  readonly Update: TUnsafe<Update>;
  /** Exists only as a type: see `BodyType`. */
  readonly body?: Body;
}

const pascal = (noun: string): string =>
  noun.replace(/(^|_)([a-z])/g, (_match, _separator, letter: string) => letter.toUpperCase());

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
): Resource<ItemOf<I, M, R>, CreateOf<I, M, D | O, C>, UpdateOf<M>, BodyOf<CreateOf<I, M, D | O, C>, D>> {
  const { immutable, mutable, readonly, create } = declaration;
  const { defaulted = [], optional = [] }: { defaulted?: readonly string[]; optional?: readonly string[] } =
    declaration;
  const title = pascal(declaration.noun);
  const mark = (fields: TProperties, extra: object) =>
    Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, { ...schema, ...extra } as TSchema]));
  const fixed = mark(immutable, { 'x-immutable': true });
  const fields = { ...fixed, ...mutable, ...mark(readonly, { readOnly: true }) };
  const creatable: TProperties = { ...fixed, ...mutable, ...mark(create ?? {}, { 'x-immutable': true }) };
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
    Object.entries(mutable).map(([name, { default: _default, ...schema }]) => [
      name,
      Type.Optional(Type.Union([schema as TSchema, Type.Null()])),
    ]),
  );
  const strict = { additionalProperties: false };
  return {
    noun: declaration.noun,
    plural: declaration.plural,
    description: declaration.description,
    title,
    Item: Type.Unsafe(Type.Object(fields, { ...strict, title, description: declaration.description })),
    Create: Type.Unsafe(Type.Object(creatable, { ...strict, title: `${title}Create` })),
    Update: Type.Unsafe(
      Type.Object(updatable, {
        ...strict,
        title: `${title}Update`,
        minProperties: 1,
        description:
          'Fields to change; the others stay. A value replaces the present one whole, lists and maps too. `null` puts a field back to its default.',
      }),
    ),
  };
}

export type ItemType<T> = T extends Resource<infer Item, unknown, unknown> ? Item : never;
export type CreateType<T> = T extends Resource<unknown, infer Create, unknown> ? Create : never;
/** A creation as its handler receives it, with the defaults of the contract. */
export type BodyType<T> = T extends Resource<unknown, unknown, unknown, infer Body> ? Body : never;
export type UpdateType<T> = T extends Resource<unknown, unknown, infer Update> ? Update : never;
