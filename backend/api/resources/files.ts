import { file } from '../../contract/resources/files.ts';
import * as records from '../../model/records/index.ts';
import { present, put } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { changeObject } from '../transaction/change-object.ts';
import { answerWith } from '../transaction/declarations.ts';
import { serverState } from './file-servers.ts';

/** The descriptor of files. */
export const files: ResourceDescriptor<records.FileRecord> = describe(file, {
  kind: records.files,
  scope: 'project',
  show({ mirror }, { fingerprint: _fingerprint, ...record }) {
    if (mirror.get(records.fileDeletions, record.id)) return { ...record, status: { phase: 'deleting' as const } };
    const server = mirror.get(records.fileServers, record.server);
    const directory = mirror.get(records.fileDirectories, `${record.server}/${record.project}`)?.value;
    if (!server) return { ...record, status: { phase: 'unavailable' as const } };
    const { since: _since, ...status } = serverState(mirror, server.value);
    if (status.phase === 'unavailable' || directory?.message === undefined) return { ...record, status };
    return { ...record, status: { phase: 'unavailable' as const, message: directory.message } };
  },
  quota: ({ size }) => ({ files: 1, file_bytes: size }),
  observedBy: [records.fileDeletions],
  alsoMirrored: [records.fileServers, records.fileDirectories, records.leaders],
  handlers: { file_delete: deleteFile },
});

/** Requests the deletion. The scanner removes the file, and then its record. */
async function deleteFile(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, files, (stored) => {
    if (api.mirror.get(records.fileDeletions, stored.id)) return { nothing: answerWith(api, files, stored, 202) };
    return {
      guards: [{ condition: present(records.files, stored.id) }],
      writes: [put(records.fileDeletions, stored.id, { at: request.now.toISOString() })],
      target: stored.id,
      project: stored.value.project,
      quotaDelta: undefined,
      reason: 'deletion_requested',
      message: `Deletion of ${stored.value.name} requested.`,
      answer: () => answerWith(api, files, stored, 202),
    };
  });
}
