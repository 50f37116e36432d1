import { Metadata } from '@tus/server';
import { UcloudError } from '../../contract/errors.ts';
import { maxUploadBytes } from '../../contract/resources/uploads.ts';
import { brokenNameRule } from '../../model/file/name-text.ts';
import { fileId } from '../../model/file/names.ts';
import { isIdOf, newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { present, put } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest, Caller, Handlers } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { find } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { projectOfCreation } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import type { UploadServer } from '../uploads/server.ts';

/** The time for which an unfinished upload is kept, in milliseconds. */
const expiryMs = 24 * 3_600_000;
/** The maximum number of unfinished uploads of one project. */
const maxUnfinished = 1000;
const metadataPlace = '#header/Upload-Metadata';

/** The descriptor of uploads. They have no get and no list: clients know their uploads. */
export const uploads: ResourceDescriptor<records.UploadRecord> = {
  noun: 'upload',
  plural: 'uploads',
  kind: records.uploads,
  scope: 'project',
  show: (_api, record) => record,
  // The file scanner counts the file as soon as it knows it.
  quota: ({ phase, size }) => (phase === 'recorded' ? {} : { files: 1, file_bytes: size }),
  alsoMirrored: [records.uploadLocks, records.uploadLockRequests],
  handlers: {
    upload_create: createUpload,
    upload_offset: uploadOffset,
    upload_write: writeUpload,
    upload_delete: deleteUpload,
  } satisfies Handlers,
};

const protocol = { 'tus-resumable': '1.0.0' };

/** Returns the uploads of this server. @throws UcloudError `precondition_failed`, `not_configured` */
function serverOf({ uploads: server }: ApiContext, { headers }: ApiRequest): UploadServer {
  if (headers['tus-resumable'] !== '1.0.0')
    throw new UcloudError('precondition_failed', 'the header Tus-Resumable must be 1.0.0', {
      errors: [{ pointer: '#header/Tus-Resumable', detail: 'must be 1.0.0' }],
    });
  if (server) return server;
  throw new UcloudError('not_configured', 'this server has no directory of files for uploads (--files)');
}

interface Declared {
  readonly name: string;
  readonly sha256: string;
  readonly project: string | undefined;
  readonly length: number;
}

/** Reads the headers of a creation. @throws UcloudError `invalid_input`, `payload_too_large` */
function readDeclared({ headers }: ApiRequest): Declared {
  const wrong = (detail: string) => fieldError('invalid_input', metadataPlace, detail);
  let metadata: Record<string, string | null>;
  try {
    metadata = Metadata.parse(String(headers['upload-metadata']));
  } catch {
    throw wrong('must be comma-separated pairs of a key and a value in base 64');
  }
  const { name, sha256, project } = metadata;
  const broken = typeof name === 'string' ? brokenNameRule(name) : 'is required';
  if (typeof name !== 'string' || broken !== undefined) throw wrong(`the name ${broken}`);
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256))
    throw wrong('the sha256 must be 64 lower-case hex digits');
  if (typeof project === 'string' && !/^prj-[0-9a-hjkmnp-tv-z]{16}$/.test(project))
    throw wrong('the project must be the id of a project');
  const length = Number(headers['upload-length']);
  if (length > maxUploadBytes)
    throw new UcloudError('payload_too_large', 'the file is larger than 1 TiB', {
      errors: [{ pointer: '#header/Upload-Length', detail: `must be at most ${maxUploadBytes}` }],
    });
  return { name, sha256, project: project ?? undefined, length };
}

/** @throws UcloudError `rule_violated` if the project has too many unfinished uploads */
function checkUnfinished(api: ApiContext, project: string): void {
  let count = 0;
  for (const { value } of api.mirror.by(records.uploads, 'project').list(project))
    if (value.phase === 'receiving' && ++count >= maxUnfinished)
      throw fieldError('rule_violated', metadataPlace, `the project has ${maxUnfinished} unfinished uploads`);
}

async function createUpload(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const server = serverOf(api, request);
  const { name, sha256, project: asked, length } = readDeclared(request);
  const serverId = await server.directory.serverId();
  if (!serverId)
    throw new UcloudError('not_configured', 'the directory of files has no file scanner, or is not mounted');
  const id = newId('upload');
  const at = request.now.toISOString();
  const expires = new Date(request.now.getTime() + expiryMs);
  let record: records.UploadRecord | undefined;
  const answer = await mutate(api, request, () => {
    const project = projectOfCreation(
      api,
      request.caller,
      asked !== undefined && isIdOf('project', asked) ? asked : undefined,
    );
    checkUnfinished(api, project);
    const file = fileId(serverId, project, Buffer.from(name));
    record = {
      id,
      project,
      server: serverId,
      file,
      file_name: name,
      size: length,
      sha256,
      phase: 'receiving',
      created_at: at,
      expires_at: expires.toISOString(),
    };
    return {
      guards: [{ condition: present(records.projects, project) }],
      writes: [put(records.uploads, id, record)],
      target: id,
      project,
      quotaDelta: uploads.quota?.(record),
      reason: 'created',
      message: `Upload of ${name} began.`,
      answer: (revision) => ({
        status: 201,
        revision,
        location: `/v1/uploads/${id}`,
        headers: { ...protocol, 'upload-expires': expires.toUTCString(), 'ucloud-file': file },
      }),
    };
  });
  if (record) await server.begin(record);
  if (length === 0) await server.finish(id);
  return answer;
}

/** Returns the upload. @throws UcloudError `not_found`, also if it has expired */
function findUpload(api: ApiContext, caller: Caller, { params, now }: ApiRequest): Stored<records.UploadRecord> {
  const stored = find(api, uploads, caller, params.id ?? '');
  if (stored.value.phase === 'receiving' && Date.parse(stored.value.expires_at) <= now.getTime())
    throw new UcloudError('not_found', `the upload ${stored.id} has expired`);
  return stored;
}

const headersOf = ({ expires_at, file }: records.UploadRecord, offset: number) => ({
  ...protocol,
  'upload-offset': String(offset),
  'upload-expires': new Date(expires_at).toUTCString(),
  'ucloud-file': file,
});

async function uploadOffset(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const server = serverOf(api, request);
  // Another server may have created the upload a moment ago.
  await api.mirror.refresh();
  const { id, value } = findUpload(api, request.caller, request);
  let offset = value.size;
  if (value.phase === 'receiving') {
    offset = (await server.directory.received(id)) ?? 0;
    // A crash came between the last byte and the verification.
    if (offset === value.size) await server.finish(id);
  }
  const headers = { ...headersOf(value, offset), 'upload-length': String(value.size) };
  return { status: 200, revision: api.mirror.revision, headers };
}

async function writeUpload(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const server = serverOf(api, request);
  await api.mirror.refresh();
  const { id, value } = findUpload(api, request.caller, request);
  const offset = Number(request.headers['upload-offset']);
  if (!request.stream) throw new Error('a write of an upload has no body');
  if (value.phase !== 'receiving') {
    if (offset !== value.size)
      throw new UcloudError('conflict', 'the upload is complete', {
        errors: [{ pointer: '#header/Upload-Offset', detail: `must be ${value.size}` }],
      });
    await server.finish(id);
    return { status: 204, revision: api.mirror.revision, headers: headersOf(value, offset) };
  }
  const length = request.headers['content-length'];
  const written = await server.write(id, {
    offset,
    body: request.stream,
    length: typeof length === 'string' ? length : undefined,
    signal: request.gone,
  });
  return { status: 204, revision: api.mirror.revision, headers: headersOf(value, written) };
}

async function deleteUpload(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const server = serverOf(api, request);
  await api.mirror.refresh();
  const stored = findUpload(api, request.caller, request);
  await server.cancel(stored.id);
  return { status: 204, revision: api.mirror.revision, headers: protocol };
}
