/** The write of a new version of a Terraform state. */
import { UcloudError } from '../../../contract/errors.ts';
import { StateFile } from '../../../contract/resources/terraform-states.ts';
import { growthFrom, stateAmounts } from '../../../model/quota/amounts.ts';
import * as records from '../../../model/records/index.ts';
import { staleReason, versionsToRemove } from '../../../model/terraform/state.ts';
import { put, remove } from '../../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../../requests/context.ts';
import { bodyChecker, fieldError } from '../../requests/validation.ts';
import { discard, removeContent, type Sealed, seal, upload } from '../../terraform-state/content.ts';
import { type Guard, mutate } from '../../transaction/mutate.ts';
import { quotaGuard } from '../../transaction/quota-guard.ts';
import {
  checkLock,
  draft,
  findState,
  key,
  keysOf,
  type Query,
  replace,
  type State,
  type StateName,
  stateNameOf,
  textOf,
  type Version,
  versionsOf,
} from './state-record.ts';
import { hasContent, openVersion } from './stored-versions.ts';

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

export async function writeState(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
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
