/** Descriptors of resources. */
import type { TSchema } from '@sinclair/typebox';
import { type Id, idPrefixes, type Noun } from '../../contract/fields.ts';
import type { QuotaKind } from '../../contract/resources/quotas.ts';
import type { Role } from '../../contract/resources/tokens.ts';
import type { SomeAmounts } from '../../model/quota/amounts.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Revision } from '../../store/store.ts';
import type { ApiContext, Handlers } from './context.ts';

/** The fields that the API reads from records of every resource. */
export interface DeclaredRecord {
  readonly id: string;
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly delete_protection?: boolean;
}

/** The reader of an object. */
export interface Audience {
  readonly role: Role;
  /** The project of the reader. Operators have none, and neither has a caller that has just changed the object. */
  readonly project?: Id<'project'>;
  readonly listed?: boolean;
}

/**
 * Everything that the API knows of a resource. The list of all descriptors (resources/index.ts) determines the kinds of
 * the mirror, visibility, quota usage, revisions and routes. A member is a method, so that a list of descriptors of
 * different records has one type; the API gives each descriptor only its own records.
 */
export interface ResourceDescriptor<R extends DeclaredRecord = DeclaredRecord> {
  readonly noun: Noun;
  /** The noun in paths: `ssh-keys`. */
  readonly plural: string;
  readonly kind: RecordKind<TSchema & { static: R }>;
  /**
   * The owner of an object: `project` if the record has a field for it; `self` for projects; `cloud` for objects of the
   * operator that everyone may read; `operator` for objects that only operators see.
   */
  readonly scope: 'project' | 'self' | 'cloud' | 'operator';
  /** Returns the billing account whose tokens may read the object. Default: none. */
  payer?(record: R): string | undefined;
  /** Tells whether all projects may read an object of one project. */
  isPublic?(record: R): boolean;
  /** Returns the other projects that may read and use an object of one project. */
  sharedWith?(record: R): readonly string[];
  /** Returns the object of the contract, without `revision`. */
  show(api: ApiContext, record: R): object;
  /** Returns the fields that this audience does not get. */
  hides?(audience: Audience, record: R): readonly string[];
  /** Returns fields whose values depend on the audience. */
  marks?(audience: Audience, record: R): object;
  /** Returns the labels for selectors. Default: the labels of the record. */
  labels?(api: ApiContext, record: R): Readonly<Record<string, string>>;
  /** Returns the amounts that the object takes from the quota of its project. Default: none. */
  quota?(record: R): SomeAmounts;
  /** The fields of requests that increase these amounts, if they have other names than usual. */
  readonly quotaPointers?: Readonly<Partial<Record<QuotaKind, string>>>;
  /** The kinds of records under the same id that change how the object looks. */
  readonly observedBy?: readonly RecordKind[];
  /** Returns further records that the object shows, beside those of `observedBy`, for clients that wait. */
  watches?(api: ApiContext, id: string): readonly { readonly kind: RecordKind; readonly id: string }[];
  /** Returns the host whose sign of life the object shows. */
  hostOf?(api: ApiContext, id: string): string | undefined;
  /** Returns the revision of the declaration, for ETag and If-Match. Default: that of the record. */
  version?(api: ApiContext, stored: Stored<R>): Revision;
  /** The fields by which the mirror has an index, beside the project. */
  readonly indexes?: readonly string[];
  /** Further kinds of records that handlers read from the mirror. */
  readonly alsoMirrored?: readonly RecordKind[];
  readonly list?: {
    /** Set if the contract shows no `revision` in the items. */
    readonly plain?: boolean;
    /** A parameter of the query that selects by the field of the same name, which needs an index. */
    readonly selectedBy?: string;
    /** Parameters of the query that select by the field of the same name, without an index. */
    readonly filters?: readonly string[];
  };
  /** The handlers of all operations except get and list. */
  readonly handlers: Handlers;
}

type Description<R extends DeclaredRecord, Item> = Omit<
  ResourceDescriptor<R>,
  'noun' | 'plural' | 'show' | 'indexes'
> & {
  show(api: ApiContext, record: R): Omit<Item, 'revision'>;
  readonly indexes?: readonly (keyof R & string)[];
};

/**
 * Makes the descriptor of a resource of the contract. The type of `show` requires all fields of the contract. The type of
 * the records follows from the type of the result.
 */
export const describe = <Item, R extends DeclaredRecord>(
  {
    noun,
    plural,
  }: { readonly noun: Noun; readonly plural: string; readonly Item: TSchema & { readonly static: Item } },
  description: Description<NoInfer<R>, Item>,
): ResourceDescriptor<R> => ({ noun, plural, ...description });

/** The descriptors of all resources. */
export class Resources {
  readonly #byNoun: ReadonlyMap<Noun, ResourceDescriptor>;

  constructor(descriptors: readonly ResourceDescriptor[]) {
    this.#byNoun = new Map(descriptors.map((each) => [each.noun, each]));
  }

  /** Returns the descriptor of the object with this id; undefined for other ids. */
  ofId(id: string): ResourceDescriptor | undefined {
    const noun = nounOfId(id);
    return noun && this.#byNoun.get(noun);
  }
}

/** Returns what a record takes from the quota of the project; nothing if it belongs to another one. */
export const amountsIn = <R extends DeclaredRecord>(
  descriptor: ResourceDescriptor<R>,
  project: string,
  record: R,
): SomeAmounts => (projectOf(record) === project ? (descriptor.quota?.(record) ?? {}) : {});

/** Returns the project of a record; undefined if it belongs to none. */
export const projectOf = (record: DeclaredRecord): Id<'project'> | undefined =>
  // The schema of the record has checked the id.
  'project' in record ? (record.project as Id<'project'> | undefined) : undefined;

/** Returns the noun with the prefix of this id; undefined for an unknown prefix. */
export const nounOfId = (id: string): Noun | undefined => {
  const prefix = id.slice(0, id.indexOf('-'));
  return (Object.keys(idPrefixes) as Noun[]).find((noun) => idPrefixes[noun] === prefix);
};
