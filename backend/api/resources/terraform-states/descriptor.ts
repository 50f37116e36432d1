/**
 * States of Terraform, with lock and history.
 *
 * The record of a state contains the latest version and the lock. Versions and their content are separate records and
 * never change. Every change is one transaction on the condition that the record of the state is unchanged. The record
 * is read from the database, not from the mirror, so every server shows the state of the last lock holder. As a result,
 * one of two clients gets the lock, a client without the lock cannot write, and a version becomes the latest when it is
 * committed.
 *
 * A lock creates the record of a new state. Its release removes the record again if nothing was written.
 */
import { UcloudError } from '../../../contract/errors.ts';
import {
  type LockInfo,
  TerraformStateItem,
  type TerraformStateVersion,
} from '../../../contract/resources/terraform-states.ts';
import { stateAmounts } from '../../../model/quota/amounts.ts';
import * as records from '../../../model/records/index.ts';
import { remove, removeAll, unchanged } from '../../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../../requests/context.ts';
import { describe, type ResourceDescriptor } from '../../requests/descriptor.ts';
import { removeContent } from '../../terraform-state/content.ts';
import { releaseName } from '../../transaction/declarations.ts';
import { mutate } from '../../transaction/mutate.ts';
import {
  checkLock,
  draft,
  findState,
  holderOf,
  locked,
  type Query,
  replace,
  requireState,
  type State,
  stateNameOf,
  unlocked,
  versionsOf,
} from './state-record.ts';
import { answerWith, openVersion } from './stored-versions.ts';
import { writeState } from './write.ts';

const contract = { noun: 'terraform_state', plural: 'terraform-states', Item: TerraformStateItem } as const;

/** The descriptor of Terraform states. */
export const terraformStates: ResourceDescriptor<records.TerraformStateRecord> = describe(contract, {
  kind: records.terraformStates,
  scope: 'project',
  show: (_api, { kept_bytes: _kept, ...record }) => record,
  quota: stateAmounts,
  handlers: {
    terraform_state_read: readState,
    terraform_state_write: writeState,
    terraform_state_delete: deleteState,
    terraform_state_lock: lockState,
    terraform_state_unlock: unlockState,
    terraform_state_version_list: listVersions,
    terraform_state_version_read: readVersion,
  },
});

async function readState(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const place = stateNameOf(api, request);
  for (let before: State | undefined; ; ) {
    const state = await requireState(api, place);
    const { version } = state.value;
    if (version === undefined) {
      throw new UcloudError('not_found', `the state ${place.name} is locked, but nothing has been written to it yet`);
    }
    const found = await openVersion(api, place, state, version);
    if (found) return answerWith(found, state.revision);
    // The latest version is removed only after a newer one, or with the whole state.
    if (state.revision === before?.revision) throw new Error(`version ${version} of ${state.id} is incomplete`);
    before = state;
  }
}

async function deleteState(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const place = stateNameOf(api, request);
  const { ID } = request.query as Query;
  return mutate(api, request, async () => {
    const state = await requireState(api, place);
    checkLock(place.name, state.value.lock, ID);
    const versions = await versionsOf(api, state.id);
    return {
      guards: [{ condition: unchanged(state) }],
      writes: [
        remove(records.terraformStates, state.id),
        releaseName('terraform_state', place.project, place.name),
        removeAll(records.terraformStateVersions, `${state.id}/`),
        ...versions.map(({ value }) => removeContent(value.content)),
      ],
      target: state.id,
      project: place.project,
      quotaDelta: undefined,
      reason: 'deleted',
      message: `Deleted ${place.name} with ${versions.length} versions.`,
      answer: (revision) => ({ status: 204, revision }),
    };
  });
}

async function lockState(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const place = stateNameOf(api, request);
  const lock = request.body as LockInfo;
  const at = request.now.toISOString();
  return mutate(api, request, async () => {
    const state = await findState(api, place);
    const held = state?.value.lock;
    if (state && held?.ID === lock.ID) return { nothing: { status: 200, body: held, revision: state.revision } };
    if (held) throw locked(place.name, held);
    return {
      ...replace(place, state, { ...(state?.value ?? draft(place, at)), lock, updated_at: at }),
      reason: 'locked',
      message: `${place.name} is ${holderOf(lock)}.`,
      answer: (revision) => ({ status: 200, body: lock, revision }),
    };
  });
}

async function unlockState(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const place = stateNameOf(api, request);
  const id = (request.body as LockInfo | undefined)?.ID ?? (request.query as Query).ID;
  const at = request.now.toISOString();
  return mutate(api, request, async () => {
    const state = await findState(api, place);
    const held = state?.value.lock;
    if (!state || !held) return { nothing: { status: 200, revision: api.mirror.revision } };
    if (id !== undefined && id !== held.ID) throw locked(place.name, held);
    return {
      ...unlocked(place, state, at),
      reason: id === undefined ? 'lock_broken' : 'unlocked',
      message:
        id === undefined
          ? `The lock ${held.ID} of ${place.name} was broken: ${holderOf(held)}.`
          : `${place.name} unlocked.`,
      answer: (revision) => ({ status: 200, revision }),
    };
  });
}

async function listVersions(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const state = await requireState(api, stateNameOf(api, request));
  const items = (await versionsOf(api, state.id)).map(({ value }): TerraformStateVersion => {
    const { content: _content, md5: _md5, ...item } = value;
    return item;
  });
  return { status: 200, body: { items, revision: state.revision }, revision: state.revision };
}

async function readVersion(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const place = stateNameOf(api, request);
  const version = Number(request.params.version);
  const state = await requireState(api, place);
  const found = await openVersion(api, place, state, version);
  if (found) return answerWith(found, state.revision);
  throw new UcloudError('not_found', `the state ${place.name} has no version ${version}, or the version was removed`);
}
