/** What the API needs to know of a kind of object to serve it: where its records lie, who sees it, how it looks. */
import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../../contract/errors.ts';
import { type Id, idPrefixes, type Noun } from '../../contract/fields.ts';
import type { Role } from '../../contract/resources/tokens.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Revision } from '../../store/store.ts';
import type { ApiContext, Caller } from './context.ts';
import { fieldError } from './validation.ts';

/** What every record that is served has. */
export interface DeclaredRecord {
  readonly id: string;
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly delete_protection?: boolean;
}

/** The reader of an object, and whether the object is part of a list. */
export interface Audience {
  readonly role: Role;
  readonly listed?: boolean;
}

export interface ResourceDescriptor<R extends DeclaredRecord> {
  readonly noun: Noun;
  readonly plural: string;
  readonly kind: RecordKind<TSchema & { static: R }>;
  /**
   * How to find the project an object belongs to: `project` where the record has a field for it, `self` for projects,
   * `cloud` for what belongs to the operator but all may read, `operator` for what nobody else may see.
   */
  readonly scope: 'project' | 'self' | 'cloud' | 'operator';
  /** Readable by all projects although it belongs to one. */
  readonly isPublic?: (record: R) => boolean;
  /** The object as the contract shows it, without `revision`. */
  readonly show: (api: ApiContext, record: R) => object;
  /** Fields that are left out for an audience. */
  readonly hides?: (audience: Audience) => readonly string[];
  /** Labels to select by, where they do not lie in the record. */
  readonly labels?: (api: ApiContext, record: R) => Readonly<Record<string, string>>;
}

export const projectOf = (record: DeclaredRecord): Id<'project'> | undefined =>
  'project' in record && typeof record.project === 'string' ? record.project : undefined;

/** Whether the caller may know of the object. */
export function isVisible<R extends DeclaredRecord>(served: ResourceDescriptor<R>, caller: Caller, record: R): boolean {
  if (caller.role === 'operator') return true;
  switch (served.scope) {
    case 'cloud':
      return true;
    case 'operator':
      return false;
    case 'self':
      return record.id === caller.project;
    case 'project':
      return projectOf(record) === caller.project || served.isPublic?.(record) === true;
  }
}

const words = (noun: Noun): string => noun.replaceAll('_', ' ');

export const notFound = (noun: Noun, id: string): UcloudError =>
  new UcloudError('not_found', `there is no ${words(noun)} ${id}`);

/** The object that the path names, if the caller may know of it. Throws `not_found`. */
export function find<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  caller: Caller,
  id: string,
): Stored<R> {
  const stored = api.mirror.get(served.kind, id);
  if (!stored || !isVisible(served, caller, stored.value)) throw notFound(served.noun, id);
  return stored;
}

/** The same for a change: who may read what is public may still not change it. Throws `not_found`, `forbidden`. */
export function findToChange<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  caller: Caller,
  id: string,
): Stored<R> {
  const stored = find(api, served, caller, id);
  if (caller.role !== 'operator' && served.scope === 'project' && projectOf(stored.value) !== caller.project) {
    throw new UcloudError('forbidden', `the ${words(served.noun)} ${id} is public, but belongs to another project`);
  }
  return stored;
}

/** The object of the same project (or a public one) that a field refers to. Throws `invalid_reference`. */
export function refer<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  project: Id<'project'>,
  id: string,
  pointer: string,
): Stored<R> {
  const stored = api.mirror.get(served.kind, id);
  const usable =
    stored && (served.scope !== 'project' || projectOf(stored.value) === project || served.isPublic?.(stored.value));
  if (!usable) throw fieldError('invalid_reference', pointer, `names no ${words(served.noun)} of this project: ${id}`);
  return stored;
}

export const nounOfId = (id: string): Noun | undefined => {
  const prefix = id.slice(0, id.indexOf('-'));
  return (Object.keys(idPrefixes) as Noun[]).find((noun) => idPrefixes[noun] === prefix);
};

/** The object with its revision: what answers carry. */
export function presentObject<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  stored: Stored<R>,
  audience: Audience,
): { readonly revision: Revision } & object {
  const item: Record<string, unknown> = { ...served.show(api, stored.value) };
  for (const field of served.hides?.(audience) ?? []) delete item[field];
  return { ...item, revision: api.revisions.revisionOf(served.kind, stored) };
}
