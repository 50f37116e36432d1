/** Records of files and file servers, as the scanner writes them. */
import type { Id } from '../../backend/contract/fields.ts';
import { escapeName } from '../../backend/model/file/name-text.ts';
import { fileId } from '../../backend/model/file/names.ts';
import type { FileRecord, FileServerRecord } from '../../backend/model/records/index.ts';

const at = '2026-01-01T00:00:00.000Z';

export const fileServerRecord = (id: Id<'file_server'>): FileServerRecord => ({
  id,
  name: 'files1',
  phase: 'available',
  at,
  created_at: at,
});

export function fileRecord(server: Id<'file_server'>, project: Id<'project'>, name: string): FileRecord {
  const bytes = Buffer.from(name);
  return {
    id: fileId(server, project, bytes),
    project,
    server,
    name: escapeName(bytes),
    size: 1,
    sha256: '0'.repeat(64),
    modified_at: at,
    fingerprint: '1:1:1:1',
    created_at: at,
    updated_at: at,
  };
}
