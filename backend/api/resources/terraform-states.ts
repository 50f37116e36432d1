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
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import {
  type LockInfo,
  StateFile,
  TerraformStateItem,
  type TerraformStateVersion,
} from '../../contract/resources/terraform-states.ts';
import { newId } from '../../model/ids.ts';
import { growthFrom, stateAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { staleReason, versionsToRemove } from '../../model/terraform/state.ts';
import { absent, put, read, readAll, remove, removeAll, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { notFound } from '../requests/objects.ts';
import { bodyChecker, fieldError } from '../requests/validation.ts';
import { discard, open, removeContent, type Sealed, seal, upload } from '../terraform-state/content.ts';
import type { StateKeys } from '../terraform-state/keys.ts';
import { nameKey, releaseName } from '../transaction/declarations.ts';
import { type Guard, type Mutation, mutate } from '../transaction/mutate.ts';
import { quotaGuard } from '../transaction/quota-guard.ts';

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

type State = Stored<records.TerraformStateRecord>;
type Version = records.TerraformStateVersionRecord;

interface Query {
  readonly project?: Id<'project'>;
  readonly ID?: string;
  readonly force?: boolean;
}

/** The identity of a state: its name is unique in its project. */
interface StateName {
  readonly project: Id<'project'>;
  readonly name: string;
}

function stateNameOf(api: ApiContext, { caller, params, query }: ApiRequest): StateName {
  const asked = (query as Query).project;
  const project = asked ?? caller.project;
  if (project === undefined) {
    throw fieldError('invalid_input', '#query/project', 'is required with a token that belongs to no project');
  }
  const foreign = caller.role !== 'operator' && project !== caller.project;
  if (foreign || !api.mirror.get(records.projects, project)) throw notFound('project', project);
  return { project, name: params.name ?? '' };
}

const textOf = ({ project, name }: StateName): string => `${project}/${name}`;

async function findState({ store }: ApiContext, { project, name }: StateName): Promise<State | undefined> {
  const holder = await read(store, records.names, nameKey(project, 'terraform_state', name));
  return holder && read(store, records.terraformStates, holder.value.id);
}

async function requireState(api: ApiContext, place: StateName): Promise<State> {
  const state = await findState(api, place);
  if (!state) throw notFound('terraform_state', place.name);
  return state;
}

function keysOf({ stateKeys }: ApiContext): StateKeys {
  if (stateKeys) return stateKeys;
  throw new UcloudError('not_configured', 'this server has no key to encrypt states with (--state-key)');
}

/** Returns a description of the lock's holder. */
const holderOf = ({ Who, Operation, Created }: LockInfo): string =>
  `held by ${Who || 'an unnamed client'}${Created === undefined ? '' : ` since ${Created}`}${Operation ? `, ${Operation}` : ''}`;

/**
 * Returns the error of a locked state. Terraform prints only the ID of the LockInfo, so the ID contains the holder too.
 */
function locked(name: string, lock: LockInfo): UcloudError {
  const holder = holderOf(lock);
  return new UcloudError('state_locked', `the state ${name} is locked, ${holder}; the ID of the lock is ${lock.ID}`, {
    members: { ...lock, ID: `${lock.ID} (${holder})`, lock },
  });
}

/**
 * Checks that the client holds the lock, or that there is neither a lock nor a claim to one. @throws UcloudError
 * `state_locked`, `invalid_state`
 */
function checkLock(name: string, lock: LockInfo | undefined, id: string | undefined): void {
  if (lock && lock.ID !== id) throw locked(name, lock);
  if (!lock && id !== undefined) {
    throw new UcloudError('invalid_state', `the state ${name} is not locked any more; it must be locked with ID ${id}`);
  }
}

const key = (state: string, version: number): string => `${state}/${String(version).padStart(10, '0')}`;

async function versionsOf({ store }: ApiContext, state: string): Promise<Stored<Version>[]> {
  const versions: Stored<Version>[] = [];
  for await (const version of readAll(store, records.terraformStateVersions, `${state}/`)) versions.push(version);
  return versions;
}

/** Returns the guards and writes that create or replace the record of a state. */
function replace(place: StateName, before: State | undefined, next: records.TerraformStateRecord) {
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

const draft = ({ project, name }: StateName, at: string): records.TerraformStateRecord => ({
  id: newId('terraform_state'),
  project,
  name,
  created_at: at,
  updated_at: at,
});

/** Returns the change that removes the lock; it removes the whole record if nothing was ever written to the state. */
function unlocked(
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

const checkFile = bodyChecker(StateFile);
const membersLookedAt = Object.keys(StateFile.properties);

interface UploadedState {
  readonly bytes: Uint8Array;
  readonly md5: string;
  readonly file: StateFile;
}

/** Reads a state from the body. @throws UcloudError `invalid_input`, `rate_limited` */
async function readFile(
  { stateWorkers: workshop }: ApiContext,
  request: ApiRequest,
  { project }: StateName,
): Promise<UploadedState> {
  const { body: bytes, headers } = request;
  if (!Buffer.isBuffer(bytes)) throw fieldError('invalid_input', '', 'is required');
  const digest = headers['content-md5'];
  const result = await workshop.run(project, {
    work: 'read',
    bytes,
    members: membersLookedAt,
    ...(typeof digest === 'string' ? { digest } : {}),
  });
  if (!result.ok) throw fieldError('invalid_input', result.pointer, result.detail);
  checkFile(result.members);
  return { bytes: result.bytes, md5: result.md5, file: result.members as StateFile };
}

interface StoredVersion {
  readonly version: Version;
  readonly stream: Readable;
}

async function openVersion(
  api: ApiContext,
  place: StateName,
  state: State,
  version: number,
): Promise<StoredVersion | undefined> {
  const stored = await read(api.store, records.terraformStateVersions, key(state.id, version));
  if (!stored) return undefined;
  const { content, size } = stored.value;
  const stream = await open(api.store, keysOf(api), textOf(place), content, size);
  return stream && { version: stored.value, stream };
}

/**
 * The maximum bytes of a state that is read completely before the response begins, so that a read error becomes a
 * problem document.
 */
const sentWhole = 256 * 1024;

async function answerWith({ version: { size, md5 }, stream }: StoredVersion, revision: number): Promise<ApiAnswer> {
  if (size > sentWhole) {
    return { status: 200, content: { size, data: stream, ...(md5 === undefined ? {} : { md5 }) }, revision };
  }
  const data = Buffer.concat(await stream.toArray());
  return { status: 200, content: { size, data, md5: createHash('md5').update(data).digest('base64') }, revision };
}

/** Tells whether the stored version has this content. It has only one piece of the version in memory at a time. */
async function hasContent({ version, stream }: StoredVersion, bytes: Uint8Array): Promise<boolean> {
  if (version.size !== bytes.length) {
    stream.destroy();
    return false;
  }
  let at = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    if (!piece.equals(bytes.subarray(at, at + piece.length))) return false;
    at += piece.length;
  }
  return true;
}

/**
 * Checks that the state may be written. Returns whether it is the latest version already. @throws UcloudError
 * `state_locked`, `invalid_state`, `stale_state`
 */
async function checkWrite(
  api: ApiContext,
  request: ApiRequest,
  place: StateName,
  given: UploadedState,
): Promise<{ readonly state: State | undefined; readonly repeated: boolean }> {
  const { ID, force } = request.query as Query;
  const state = await findState(api, place);
  checkLock(place.name, state?.value.lock, ID);
  const { version, serial, lineage } = state?.value ?? {};
  if (!state || force || version === undefined || serial === undefined || lineage === undefined) {
    return { state, repeated: false };
  }
  const stale = staleReason({ serial, lineage }, given.file);
  if (stale === undefined) return { state, repeated: false };
  if (serial === given.file.serial && lineage === given.file.lineage) {
    // A client that missed our response sends the same state again.
    const latest = await openVersion(api, place, state, version);
    if (latest && (await hasContent(latest, given.bytes))) return { state, repeated: true };
  }
  throw new UcloudError('stale_state', stale);
}

/** Returns the bytes that all versions of the state may have within the quota of the project. */
function bytesAllowed(api: ApiContext, state: State | undefined, { project }: StateName): number {
  const limit = api.mirror.get(records.projects, project)?.value.quota?.terraform_state_size ?? undefined;
  if (limit === undefined) return Number.POSITIVE_INFINITY;
  const own = state ? stateAmounts(state.value).terraform_state_size : 0;
  return limit - (api.usage.of(project).terraform_state_size - own);
}

/**
 * Checks before the first write that the quota allows the state without its history. @throws UcloudError
 * `quota_exceeded`
 */
async function checkQuota(
  api: ApiContext,
  { project }: StateName,
  state: State | undefined,
  stored: number,
): Promise<void> {
  const alone = { terraform_states: 1, terraform_state_size: stored };
  const quotaDelta = growthFrom(state ? stateAmounts(state.value) : {}, alone);
  try {
    quotaGuard(api, { project, quotaDelta });
  } catch {
    // The error may come from an outdated mirror.
    await api.mirror.refresh();
    quotaGuard(api, { project, quotaDelta });
  }
}

async function write(
  api: ApiContext,
  request: ApiRequest,
  place: StateName,
  given: UploadedState,
  sealed: Sealed,
): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const { serial, lineage, terraform_version } = given.file;
  const about = {
    serial,
    lineage,
    ...(terraform_version === undefined ? {} : { terraform_version }),
    size: given.bytes.length,
  };
  const completion = await upload(api.store, sealed, request.now);
  return mutate(api, request, async () => {
    const { state, repeated } = await checkWrite(api, request, place, given);
    if (repeated) return { nothing: { status: 200, revision: api.mirror.revision } };
    const { terraform_version: _earlier, ...before } = state?.value ?? draft(place, at);
    const version = (before.version ?? 0) + 1;
    const earlier = (await versionsOf(api, before.id)).map((stored) => ({
      ...stored,
      stored: stored.value.content.stored,
    }));
    const going = versionsToRemove(earlier, sealed.content.stored, bytesAllowed(api, state, place));
    const sum = (versions: typeof earlier) => versions.reduce((bytes, { stored }) => bytes + stored, 0);
    const kept_bytes = sum(earlier) - sum(going) + sealed.content.stored;
    const change = replace(place, state, { ...before, ...about, version, kept_bytes, updated_at: at });
    const record: Version = {
      version,
      ...about,
      md5: given.md5,
      token: request.caller.token,
      content: sealed.content,
      created_at: at,
    };
    return {
      ...change,
      guards: [
        ...change.guards,
        ...completion.require.map((condition): Guard => ({ condition, otherwise: uploadAbandoned })),
      ],
      writes: [
        ...change.writes,
        ...completion.write,
        put(records.terraformStateVersions, key(before.id, version), record),
        ...going.flatMap(({ id, value }) => [remove(records.terraformStateVersions, id), removeContent(value.content)]),
      ],
      reason: 'written',
      message: `Version ${version} of ${place.name} written, serial ${serial}.`,
      answer: (revision) => ({ status: 200, revision }),
    };
  });
}

/**
 * Returns the error of an upload without its record: the collector or our own commit, whose result was lost, has
 * removed it. The client may send the request again in both cases; a state that is already the latest version creates
 * no new one.
 */
const uploadAbandoned = (): UcloudError =>
  new UcloudError('conflict', 'the upload of the state was removed before it was complete; send the state again');

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

async function writeState(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const place = stateNameOf(api, request);
  const keys = keysOf(api);
  const read = await readFile(api, request, place);
  // The check precedes the upload, so a refused state writes nothing.
  const { state, repeated } = await checkWrite(api, request, place, read);
  if (repeated) return { status: 200, revision: api.mirror.revision };
  const { sealed, bytes } = await seal(api.stateWorkers, place.project, keys, textOf(place), read.bytes);
  const given = { ...read, bytes };
  // The token may have become invalid during the wait for other jobs.
  api.callers.check(request.caller);
  await checkQuota(api, place, state, sealed.content.stored);
  try {
    return await write(api, request, place, given, sealed);
  } catch (error) {
    if (sealed.chunks.length > 1) {
      await discard(api.store, sealed).catch((err: unknown) =>
        api.logger.warn({ err, request: request.id }, 'a state that was not written is left to the collector'),
      );
    }
    throw error;
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
