/** The common parts of creation, update and deletion: names, references, versions, protection. */
import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../../contract/errors.ts';
import type { Id, Noun } from '../../contract/fields.ts';
import type { Resource } from '../../contract/resource.ts';
import { growthFrom } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import {
  absent,
  noneBelow,
  put,
  present as recordPresent,
  remove,
  rewrite,
  unchanged,
} from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiAnswer, ApiContext, ApiRequest, Caller } from '../requests/context.ts';
import { type DeclaredRecord, projectOf, type ResourceDescriptor } from '../requests/descriptor.ts';
import { isVisible, presentObject, refer } from '../requests/objects.ts';
import { fieldError, invalidInput } from '../requests/validation.ts';
import type { Guard, Mutation } from './mutate.ts';

/** Returns the project of a new object. @throws UcloudError `invalid_input`, `invalid_reference` */
export function projectOfCreation(api: ApiContext, caller: Caller, asked: Id<'project'> | undefined): Id<'project'> {
  const project = asked ?? caller.project;
  if (project === undefined) {
    throw fieldError('invalid_input', '/project', 'is required with a token that belongs to no project');
  }
  const foreign = caller.role !== 'operator' && project !== caller.project;
  if (foreign || !api.mirror.get(records.projects, project)) {
    throw fieldError('invalid_reference', '/project', `must be the id of an existing project: there is no ${project}`);
  }
  return project;
}

/** Returns the id of the record that holds a name. */
export const nameKey = (project: Id<'project'> | undefined, noun: Noun, name: string): string =>
  `${project ?? '_'}/${noun}/${name}`;

/** Returns the guards and writes that give an object its name. */
export function takeName(
  noun: Noun,
  project: Id<'project'> | undefined,
  name: string,
  id: string,
): { guards: Guard[]; writes: Write[] } {
  const key = nameKey(project, noun, name);
  const guard: Guard = {
    condition: absent(records.names, key),
    otherwise: ([entry]) => {
      const holder: unknown = entry && JSON.parse(entry.value).id;
      return fieldError('name_taken', '/name', `is taken by ${typeof holder === 'string' ? holder : 'another object'}`);
    },
  };
  return { guards: [guard], writes: [put(records.names, key, { id })] };
}

/** Returns the write that releases a name. */
export const releaseName = (noun: Noun, project: Id<'project'> | undefined, name: string): Write =>
  remove(records.names, nameKey(project, noun, name));

/**
 * Returns the object of a reference, with the guard that it exists. It can be deleted later. @throws UcloudError
 * `invalid_reference`
 */
export function findReference<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  reference: { project: Id<'project'>; id: string; pointer: string },
): { stored: Stored<R>; guards: Guard[] } {
  const stored = refer(api, descriptor, reference.project, reference.id, reference.pointer);
  // Another project may withdraw its object at any time. The mirror of this server may not show this yet.
  const foreign = descriptor.scope === 'project' && projectOf(stored.value) !== reference.project;
  return { stored, guards: [{ condition: foreign ? unchanged(stored) : recordPresent(descriptor.kind, stored.id) }] };
}

/**
 * Returns the object of a reference, with the guard that it exists and the write that prevents its deletion. @throws
 * UcloudError `invalid_reference`
 */
export function addReference<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  reference: { project: Id<'project'>; id: string; pointer: string; user: string },
): { stored: Stored<R>; guards: Guard[]; writes: Write[] } {
  const { stored, guards } = findReference(api, descriptor, reference);
  return { stored, guards, writes: [put(records.uses, `${stored.id}/${reference.user}`, {})] };
}

/** Returns the write that removes a reference. */
export const removeReference = (used: string, user: string): Write => remove(records.uses, `${used}/${user}`);

interface Additions {
  readonly guards?: readonly Guard[];
  readonly writes?: readonly Write[];
}

/**
 * Returns the creation of an object: its record, its name, and its share of the quota.
 * @param additions.message the message of the event; default: `Created <name>.`
 * @param additions.shown fields that only this answer shows
 */
export function creation<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  record: R,
  { guards = [], writes = [], message, shown = {} }: Additions & { message?: string; shown?: object } = {},
): Mutation {
  const { id, name } = record;
  const project = descriptor.scope === 'self' ? undefined : projectOf(record);
  const taken = name === undefined ? { guards: [], writes: [] } : takeName(descriptor.noun, project, name, id);
  return {
    guards: [...taken.guards, ...guards],
    writes: [put(descriptor.kind, id, record), ...taken.writes, ...writes],
    target: id,
    project: accountedTo(descriptor, record),
    quotaDelta: descriptor.quota?.(record),
    quotaPointers: descriptor.quotaPointers,
    reason: 'created',
    message: message ?? `Created ${name ?? id}.`,
    // This form of the answer can be stored and repeated for the Idempotency-Key.
    answer: {
      status: 201,
      body: { ...descriptor.show(api, record), ...shown },
      location: `/v1/${descriptor.plural}/${id}`,
    },
  };
}

/** Returns the project whose audit and events contain the object. A project belongs to itself. */
const accountedTo = <R extends DeclaredRecord>({ scope }: ResourceDescriptor<R>, record: R) =>
  // The id of a record of this scope is the id of a project.
  scope === 'self' ? (record.id as Id<'project'>) : projectOf(record);

/**
 * Checks If-Match (RFC 9110, 13.1.1) against the version of the declaration. @throws UcloudError `precondition_failed`
 */
export function checkIfMatch(ifMatch: string | undefined, version: number): void {
  if (ifMatch === undefined || ifMatch.trim() === '*') return;
  const tags = ifMatch.split(',').map((tag) => tag.trim());
  if (tags.includes(`"${version}"`)) return;
  throw new UcloudError('precondition_failed', `the current version is "${version}", not ${ifMatch}`, {
    errors: [{ pointer: '#header/If-Match', detail: `must be "${version}"` }],
  });
}

/** Returns the object after a change, from the mirror; as it was written if it is gone or the mirror is behind. */
export function answerWith<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  written: Stored<R>,
  status: number,
): ApiAnswer {
  const seen = api.mirror.get(descriptor.kind, written.id);
  const stored = seen !== undefined && seen.revision >= written.revision ? seen : written;
  return {
    status,
    // A caller that changes objects is at least a member. Only operators change objects of the cloud.
    body: presentObject(api, descriptor, stored, { role: descriptor.scope === 'project' ? 'member' : 'operator' }),
    revision: Math.max(api.mirror.revision, written.revision),
    version: written.revision,
  };
}

/** Returns the values of an update, with the default of the contract in place of each `null`. */
export function readPatch<Update extends object>(
  resource: Resource<unknown, unknown, unknown>,
  patch: Update,
): { [K in keyof Update]?: Exclude<Update[K], null> } {
  const properties: Record<string, TSchema> = resource.Create.properties ?? {};
  const entries = Object.entries(patch).map(([field, value]): [string, unknown] => {
    if (value !== null) return [field, value];
    const schema = properties[field];
    if (schema?.default === undefined) {
      throw invalidInput([{ pointer: `/${field}`, detail: 'must not be null: the field has no default' }]);
    }
    return [field, structuredClone(schema.default)];
  });
  // Each value is either the validated one or the default of the same field.
  return Object.fromEntries(entries) as { [K in keyof Update]?: Exclude<Update[K], null> };
}

/**
 * Returns the record with the changes of an update. `null` gives a field its default, or removes a field without a default
 * that a creation may omit.
 */
export function patched<R extends object, Update extends object>(
  resource: Resource<unknown, unknown, unknown>,
  record: R,
  patch: Update,
): R {
  const properties: Record<string, TSchema> = resource.Create.properties ?? {};
  const required: readonly string[] = resource.Create.required ?? [];
  const isRemoved = ([field, value]: [string, unknown]): boolean =>
    value === null && properties[field]?.default === undefined && !required.includes(field);
  const entries = Object.entries(patch);
  const changes = readPatch(resource, Object.fromEntries(entries.filter((entry) => !isRemoved(entry))));
  const removed = new Set(entries.filter(isRemoved).map(([field]) => field));
  // The removed fields are optional, and the others have their validated values.
  return Object.fromEntries(Object.entries({ ...record, ...changes }).filter(([field]) => !removed.has(field))) as R;
}

/** Returns the change of a record and its name to a new version. */
export function replacement<R extends DeclaredRecord & { readonly updated_at: string }>(
  api: ApiContext,
  request: ApiRequest,
  descriptor: ResourceDescriptor<R>,
  stored: Stored<R>,
  next: R,
  { guards = [], writes = [] }: Additions = {},
): Mutation | { readonly nothing: ApiAnswer } {
  const { updated_at: _then, ...before } = stored.value;
  const { updated_at: _now, ...after } = next;
  if (JSON.stringify(before) === JSON.stringify(after)) return { nothing: answerWith(api, descriptor, stored, 200) };
  const project = projectOf(next);
  const renamed = next.name !== undefined && next.name !== stored.value.name;
  const name =
    renamed && next.name !== undefined
      ? takeName(descriptor.noun, project, next.name, next.id)
      : { guards: [], writes: [] };
  const changed = Object.keys(request.body as object).join(', ');
  return {
    guards: [{ condition: unchanged(stored) }, ...name.guards, ...guards],
    writes: [
      rewrite(descriptor.kind, stored, next),
      ...name.writes,
      ...(renamed && stored.value.name !== undefined ? [releaseName(descriptor.noun, project, stored.value.name)] : []),
      ...writes,
    ],
    target: stored.id,
    project: accountedTo(descriptor, next),
    quotaDelta: descriptor.quota && growthFrom(descriptor.quota(stored.value), descriptor.quota(next)),
    quotaPointers: descriptor.quotaPointers,
    reason: 'updated',
    message: `Changed: ${changed}.`,
    answer: (revision) => answerWith(api, descriptor, { ...stored, value: next, revision }, 200),
  };
}

/** Returns the error of an object that is in use. It names only the users that the caller may see. */
export function inUse(api: ApiContext, caller: Caller, what: string, users: readonly string[]): UcloudError {
  const names: string[] = [];
  const known: { id: string; being_deleted: boolean }[] = [];
  let hidden = 0;
  for (const id of users) {
    const descriptor = api.resources.ofId(id);
    const stored = descriptor && api.mirror.get(descriptor.kind, id);
    if (descriptor && stored && isVisible(descriptor, caller, stored.value)) {
      const leaving = isBeingDeleted(stored.value);
      names.push(
        `${descriptor.noun.replaceAll('_', ' ')} ${stored.value.name ?? ''} (${id}${leaving ? ', being deleted' : ''})`,
      );
      known.push({ id, being_deleted: leaving });
    } else {
      hidden++;
    }
  }
  if (hidden > 0) names.push(`${hidden} of other projects`);
  return new UcloudError('in_use', `${what} is still used by ${names.join(', ')}`, { members: { users: known } });
}

const isBeingDeleted = (record: DeclaredRecord): boolean => 'deleted_at' in record && record.deleted_at !== undefined;

/** Returns the guard that no object refers to this one. */
export const unused = (api: ApiContext, caller: Caller, id: string): Guard => ({
  condition: noneBelow(records.uses, `${id}/`),
  otherwise: (found) =>
    inUse(
      api,
      caller,
      id,
      found.map(({ key }) => key.slice(key.lastIndexOf('/') + 1)),
    ),
});

/** Checks that the object has no delete protection. @throws UcloudError `delete_protected` */
export function checkProtection(record: DeclaredRecord, id: string): void {
  if (record.delete_protection) {
    throw new UcloudError('delete_protected', `${id} has delete_protection; set it to false first`);
  }
}

/**
 * Returns the removal of an object and its name. The object must be unprotected and unused. @throws UcloudError
 * `delete_protected`
 */
export function removal<R extends DeclaredRecord>(
  api: ApiContext,
  request: ApiRequest,
  descriptor: ResourceDescriptor<R>,
  stored: Stored<R>,
  { guards = [], writes = [] }: Additions = {},
): Mutation {
  checkProtection(stored.value, stored.id);
  const project = projectOf(stored.value);
  const { name } = stored.value;
  return {
    guards: [{ condition: unchanged(stored) }, unused(api, request.caller, stored.id), ...guards],
    writes: [
      remove(descriptor.kind, stored.id),
      ...(name === undefined ? [] : [releaseName(descriptor.noun, project, name)]),
      ...writes,
    ],
    target: stored.id,
    project: accountedTo(descriptor, stored.value),
    quotaDelta: undefined,
    reason: 'deleted',
    message: `Deleted${name === undefined ? '' : ` ${name}`}.`,
    answer: (revision) => ({ status: 204, revision }),
  };
}
