/** Functions that find, refer to and show the objects of a resource. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id, Noun } from '../../contract/fields.ts';
import * as records from '../../model/records/index.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Revision } from '../../store/store.ts';
import type { ApiContext, Caller } from './context.ts';
import { type Audience, type DeclaredRecord, projectOf, type ResourceDescriptor } from './descriptor.ts';
import { fieldError } from './validation.ts';

/** Tells whether the project may read and use the object. */
function isUsable<R extends DeclaredRecord>(
  descriptor: ResourceDescriptor<R>,
  project: Id<'project'> | undefined,
  record: R,
): boolean {
  if (projectOf(record) === project || descriptor.isPublic?.(record) === true) return true;
  return project !== undefined && descriptor.sharedWith?.(record).includes(project) === true;
}

/** Tells whether the caller may see the object. */
export function isVisible<R extends DeclaredRecord>(
  descriptor: ResourceDescriptor<R>,
  caller: Caller,
  record: R,
): boolean {
  if (caller.role === 'operator') return true;
  if (caller.role === 'billing') {
    const payer = descriptor.payer?.(record);
    return descriptor.scope === 'cloud' || (payer !== undefined && payer === caller.billing_account);
  }
  switch (descriptor.scope) {
    case 'cloud':
      return true;
    case 'operator':
      return false;
    case 'self':
      return record.id === caller.project;
    case 'project':
      return isUsable(descriptor, caller.project, record);
  }
}

const words = (noun: Noun): string => noun.replaceAll('_', ' ');

/** Returns the error of an unknown or invisible object. */
export const notFound = (noun: Noun, id: string): UcloudError =>
  new UcloudError('not_found', `there is no ${words(noun)} ${id}`);

/** Returns the project of the query. @throws UcloudError `not_found`, also for a project of others */
export function projectInQuery(
  api: ApiContext,
  caller: Caller,
  project: Id<'project'> | undefined,
): Id<'project'> | undefined {
  if (project === undefined) return undefined;
  const foreign = caller.role !== 'operator' && project !== caller.project;
  if (foreign || !api.mirror.get(records.projects, project)) throw notFound('project', project);
  return project;
}

/** Returns the object with this id. @throws UcloudError `not_found`, also if the caller may not see it */
export function find<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  caller: Caller,
  id: string,
): Stored<R> {
  const stored = api.mirror.get(descriptor.kind, id);
  if (!stored || !isVisible(descriptor, caller, stored.value)) throw notFound(descriptor.noun, id);
  return stored;
}

/**
 * Returns the object with this id, for a change.
 * @throws UcloudError `not_found`; `forbidden` for a public or shared object of another project
 */
export function findToChange<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  caller: Caller,
  id: string,
): Stored<R> {
  const stored = find(api, descriptor, caller, id);
  if (caller.role !== 'operator' && descriptor.scope === 'project' && projectOf(stored.value) !== caller.project) {
    throw new UcloudError(
      'forbidden',
      `the ${words(descriptor.noun)} ${id} belongs to another project, which alone may change it`,
    );
  }
  return stored;
}

/**
 * Returns the object that a field refers to: of the same project, public, or shared with the project.
 * @throws UcloudError `invalid_reference` with the pointer of the field
 */
export function refer<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  project: Id<'project'>,
  id: string,
  pointer: string,
): Stored<R> {
  const stored = api.mirror.get(descriptor.kind, id);
  const usable = stored && (descriptor.scope !== 'project' || isUsable(descriptor, project, stored.value));
  if (!usable)
    throw fieldError(
      'invalid_reference',
      pointer,
      `must be the id of an existing ${words(descriptor.noun)} of this project: there is no ${id}`,
    );
  return stored;
}

/** Returns the object of the contract with its revision, for this audience. The id is the first field. */
export function presentObject<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  stored: Stored<R>,
  audience: Audience,
): { readonly revision: Revision } & object {
  const { value } = stored;
  const item: Record<string, unknown> = {
    id: stored.id,
    ...descriptor.show(api, value),
    ...descriptor.marks?.(audience, value),
  };
  for (const field of descriptor.hides?.(audience, value) ?? []) delete item[field];
  return { ...item, revision: api.revisions.revisionOf(descriptor.kind, stored) };
}

/** Returns the revision of the declaration. */
export const versionOf = <R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  stored: Stored<R>,
): Revision => descriptor.version?.(api, stored) ?? stored.revision;
