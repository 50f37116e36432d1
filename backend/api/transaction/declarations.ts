/** What creation, update and deletion of declared objects have in common: names, references, versions, protection. */
import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../../contract/errors.ts';
import type { Id, Noun } from '../../contract/fields.ts';
import type { Resource } from '../../contract/resource.ts';
import type { SomeAmounts } from '../../model/quota/amounts.ts';
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
import {
  type DeclaredRecord,
  isVisible,
  nounOfId,
  presentObject,
  projectOf,
  type ResourceDescriptor,
  refer,
} from '../requests/descriptor.ts';
import { fieldError, invalidInput } from '../requests/validation.ts';
import { servedKinds } from '../resources/views.ts';
import type { Guard, Mutation } from './mutate.ts';

/** The project of a new object. Throws `invalid_input` or `invalid_reference`. */
export function projectOfCreation(api: ApiContext, caller: Caller, asked: Id<'project'> | undefined): Id<'project'> {
  const project = asked ?? caller.project;
  if (project === undefined) {
    throw fieldError('invalid_input', '/project', 'is required with a token that belongs to no project');
  }
  const foreign = caller.role !== 'operator' && project !== caller.project;
  if (foreign || !api.mirror.get(records.projects, project)) {
    throw fieldError('invalid_reference', '/project', `names no project: ${project}`);
  }
  return project;
}

/** Id of the record that holds a name. */
export const nameKey = (project: Id<'project'> | undefined, noun: Noun, name: string): string =>
  `${project ?? '_'}/${noun}/${name}`;

/** Guards and writes that give an object its name. */
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

export const releaseName = (noun: Noun, project: Id<'project'> | undefined, name: string): Write =>
  remove(records.names, nameKey(project, noun, name));

/** What an object refers to is still there, and cannot go as long as the object is. */
export function addReference<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  reference: { project: Id<'project'>; id: string; pointer: string; user: string },
): { stored: Stored<R>; guards: Guard[]; writes: Write[] } {
  const stored = refer(api, served, reference.project, reference.id, reference.pointer);
  return {
    stored,
    guards: [{ condition: recordPresent(served.kind, stored.id) }],
    writes: [put(records.uses, `${stored.id}/${reference.user}`, {})],
  };
}

export const removeReference = (used: string, user: string): Write => remove(records.uses, `${used}/${user}`);

/** The answer to a creation, in the form that can be given again for the same Idempotency-Key. */
export const created = (plural: string, id: string, item: object): Mutation['answer'] => ({
  status: 201,
  body: item,
  location: `/v1/${plural}/${id}`,
});

/** If-Match (RFC 9110 section 13.1.1) against the version of the declaration. Throws `precondition_failed`. */
export function checkIfMatch(ifMatch: string | undefined, version: number): void {
  if (ifMatch === undefined || ifMatch.trim() === '*') return;
  const tags = ifMatch.split(',').map((tag) => tag.trim());
  if (tags.includes(`"${version}"`)) return;
  throw new UcloudError('precondition_failed', `the present version is "${version}", not ${ifMatch}`, {
    errors: [{ pointer: '#header/If-Match', detail: `must be "${version}"` }],
  });
}

/** An object as it is after a change, from the mirror; as it was written if it has gone or the mirror lags. */
export function answerWith<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  written: Stored<R>,
  status: number,
): ApiAnswer {
  const seen = api.mirror.get(served.kind, written.id);
  const stored = seen !== undefined && seen.revision >= written.revision ? seen : written;
  return {
    status,
    // A viewer changes nothing.
    body: presentObject(api, served, stored, { role: 'member' }),
    revision: Math.max(api.mirror.revision, written.revision),
    version: written.revision,
  };
}

/** The values of an update, with the defaults of the contract in place of `null`. */
export function readPatch<Update extends object>(
  resource: Resource<unknown, unknown, unknown>,
  patch: Update,
): { [K in keyof Update]?: Exclude<Update[K], null> } {
  const properties: Record<string, TSchema> = resource.Create.properties ?? {};
  const entries = Object.entries(patch).map(([field, value]): [string, unknown] => {
    if (value !== null) return [field, value];
    const schema = properties[field];
    if (schema?.default === undefined) {
      throw invalidInput([{ pointer: `/${field}`, detail: 'cannot be null: it has no default' }]);
    }
    return [field, structuredClone(schema.default)];
  });
  // Each value is either the one that was validated or the default of the same field.
  return Object.fromEntries(entries) as { [K in keyof Update]?: Exclude<Update[K], null> };
}

/** The change of a record to another version of itself, its name included. */
export function replacement<R extends DeclaredRecord & { readonly updated_at: string }>(
  api: ApiContext,
  request: ApiRequest,
  served: ResourceDescriptor<R>,
  stored: Stored<R>,
  next: R,
  more: { guards?: readonly Guard[]; writes?: readonly Write[]; quotaDelta?: SomeAmounts } = {},
): Mutation | { readonly nothing: ApiAnswer } {
  const { updated_at: _then, ...before } = stored.value;
  const { updated_at: _now, ...after } = next;
  if (JSON.stringify(before) === JSON.stringify(after)) return { nothing: answerWith(api, served, stored, 200) };
  const project = projectOf(next);
  const renamed = next.name !== undefined && next.name !== stored.value.name;
  const name =
    renamed && next.name !== undefined
      ? takeName(served.noun, project, next.name, next.id)
      : { guards: [], writes: [] };
  const changed = Object.keys(request.body as object).join(', ');
  return {
    guards: [{ condition: unchanged(stored) }, ...name.guards, ...(more.guards ?? [])],
    writes: [
      rewrite(served.kind, stored, next),
      ...name.writes,
      ...(renamed && stored.value.name !== undefined ? [releaseName(served.noun, project, stored.value.name)] : []),
      ...(more.writes ?? []),
    ],
    target: stored.id,
    project: served.scope === 'self' ? stored.value.id : project,
    ...(more.quotaDelta ? { quotaDelta: more.quotaDelta } : {}),
    reason: 'updated',
    message: `Changed: ${changed}.`,
    answer: (revision) => answerWith(api, served, { ...stored, value: next, revision }, 200),
  };
}

/** Says who uses an object, without naming what the caller may not know of. */
export function inUse(api: ApiContext, caller: Caller, what: string, users: readonly string[]): UcloudError {
  const names: string[] = [];
  const known: { id: string; being_deleted: boolean }[] = [];
  let hidden = 0;
  for (const id of users) {
    const noun = nounOfId(id);
    const kind = noun && servedKinds.get(noun);
    const stored = kind && api.mirror.get(kind.kind, id);
    if (kind && stored && isVisible(kind, caller, stored.value)) {
      const leaving = isBeingDeleted(stored.value);
      names.push(
        `${kind.noun.replaceAll('_', ' ')} ${stored.value.name ?? ''} (${id}${leaving ? ', being deleted' : ''})`,
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

/** No object refers to this one. */
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

export function checkProtection(record: DeclaredRecord, id: string): void {
  if (record.delete_protection) {
    throw new UcloudError('delete_protected', `${id} has delete_protection switched on`);
  }
}

/** The removal of an object that is not protected and nothing refers to, and of its name. */
export function removal<R extends DeclaredRecord>(
  api: ApiContext,
  request: ApiRequest,
  served: ResourceDescriptor<R>,
  stored: Stored<R>,
  more: { guards?: readonly Guard[]; writes?: readonly Write[] } = {},
): Mutation {
  checkProtection(stored.value, stored.id);
  const project = projectOf(stored.value);
  const { name } = stored.value;
  return {
    guards: [{ condition: unchanged(stored) }, unused(api, request.caller, stored.id), ...(more.guards ?? [])],
    writes: [
      remove(served.kind, stored.id),
      ...(name === undefined ? [] : [releaseName(served.noun, project, name)]),
      ...(more.writes ?? []),
    ],
    target: stored.id,
    project,
    reason: 'deleted',
    message: `Deleted${name === undefined ? '' : ` ${name}`}.`,
    answer: (revision) => ({ status: 204, revision }),
  };
}
