/** The record of a Terraform state: finding it by its name, its lock, and its versions. */
import { UcloudError } from '../../../contract/errors.ts';
import type { Id } from '../../../contract/fields.ts';
import type { LockInfo } from '../../../contract/resources/terraform-states.ts';
import { newId } from '../../../model/ids.ts';
import { growthFrom, stateAmounts } from '../../../model/quota/amounts.ts';
import * as records from '../../../model/records/index.ts';
import { absent, put, read, readAll, remove, rewrite, unchanged } from '../../../store/collection.ts';
import type { Stored } from '../../../store/record-kind.ts';
import type { ApiContext, ApiRequest } from '../../requests/context.ts';
import { notFound } from '../../requests/objects.ts';
import { fieldError } from '../../requests/validation.ts';
import type { StateKeys } from '../../terraform-state/keys.ts';
import { nameKey, releaseName } from '../../transaction/declarations.ts';
import type { Guard, Mutation } from '../../transaction/mutate.ts';

export type State = Stored<records.TerraformStateRecord>;
export type Version = records.TerraformStateVersionRecord;

export interface Query {
  readonly project?: Id<'project'>;
  readonly ID?: string;
  readonly force?: boolean;
}

/** The identity of a state: its name is unique in its project. */
export interface StateName {
  readonly project: Id<'project'>;
  readonly name: string;
}

export function stateNameOf(api: ApiContext, { caller, params, query }: ApiRequest): StateName {
  const asked = (query as Query).project;
  const project = asked ?? caller.project;
  if (project === undefined) {
    throw fieldError('invalid_input', '#query/project', 'is required with a token that belongs to no project');
  }
  const foreign = caller.role !== 'operator' && project !== caller.project;
  if (foreign || !api.mirror.get(records.projects, project)) throw notFound('project', project);
  return { project, name: params.name ?? '' };
}

export const textOf = ({ project, name }: StateName): string => `${project}/${name}`;

export async function findState({ store }: ApiContext, { project, name }: StateName): Promise<State | undefined> {
  const holder = await read(store, records.names, nameKey(project, 'terraform_state', name));
  return holder && read(store, records.terraformStates, holder.value.id);
}

export async function requireState(api: ApiContext, place: StateName): Promise<State> {
  const state = await findState(api, place);
  if (!state) throw notFound('terraform_state', place.name);
  return state;
}

export function keysOf({ stateKeys }: ApiContext): StateKeys {
  if (stateKeys) return stateKeys;
  throw new UcloudError('not_configured', 'this server has no key to encrypt states with (--state-key)');
}

/** Returns a description of the lock's holder. */
export const holderOf = ({ Who, Operation, Created }: LockInfo): string =>
  `held by ${Who || 'an unnamed client'}${Created === undefined ? '' : ` since ${Created}`}${Operation ? `, ${Operation}` : ''}`;

/**
 * Returns the error of a locked state. Terraform prints only the ID of the LockInfo, so the ID contains the holder too.
 */
export function locked(name: string, lock: LockInfo): UcloudError {
  const holder = holderOf(lock);
  return new UcloudError('state_locked', `the state ${name} is locked, ${holder}; the ID of the lock is ${lock.ID}`, {
    members: { ...lock, ID: `${lock.ID} (${holder})`, lock },
  });
}

/**
 * Checks that the client holds the lock, or that there is neither a lock nor a claim to one. @throws UcloudError
 * `state_locked`, `invalid_state`
 */
export function checkLock(name: string, lock: LockInfo | undefined, id: string | undefined): void {
  if (lock && lock.ID !== id) throw locked(name, lock);
  if (!lock && id !== undefined) {
    throw new UcloudError('invalid_state', `the state ${name} is not locked any more; it must be locked with ID ${id}`);
  }
}

export const key = (state: string, version: number): string => `${state}/${String(version).padStart(10, '0')}`;

export async function versionsOf({ store }: ApiContext, state: string): Promise<Stored<Version>[]> {
  const versions: Stored<Version>[] = [];
  for await (const version of readAll(store, records.terraformStateVersions, `${state}/`)) versions.push(version);
  return versions;
}

/** Returns the guards and writes that create or replace the record of a state. */
export function replace(place: StateName, before: State | undefined, next: records.TerraformStateRecord) {
  const holder = nameKey(place.project, 'terraform_state', place.name);
  const guards: Guard[] = before ? [{ condition: unchanged(before) }] : [{ condition: absent(records.names, holder) }];
  const writes = [
    ...(before
      ? [rewrite(records.terraformStates, before, next)]
      : [put(records.terraformStates, next.id, next), put(records.names, holder, { id: next.id })]),
  ];
  return {
    guards,
    writes,
    target: next.id,
    project: place.project,
    quotaDelta: growthFrom(before ? stateAmounts(before.value) : {}, stateAmounts(next)),
  };
}

export const draft = ({ project, name }: StateName, at: string): records.TerraformStateRecord => ({
  id: newId('terraform_state'),
  project,
  name,
  created_at: at,
  updated_at: at,
});

/** Returns the change that removes the lock; it removes the whole record if nothing was ever written to the state. */
export function unlocked(
  place: StateName,
  state: State,
  at: string,
): Pick<Mutation, 'guards' | 'writes' | 'target' | 'project' | 'quotaDelta'> {
  const { lock: _lock, ...rest } = state.value;
  if (rest.version !== undefined) return replace(place, state, { ...rest, updated_at: at });
  return {
    guards: [{ condition: unchanged(state) }],
    writes: [remove(records.terraformStates, state.id), releaseName('terraform_state', place.project, place.name)],
    target: state.id,
    project: place.project,
    quotaDelta: undefined,
  };
}
