import { type FileServer, fileServer } from '../../contract/resources/file-servers.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';

/** Returns the state of a server. A server without a running scanner is unavailable, whatever its record says. */
export function serverState(
  mirror: Pick<Mirror, 'get'>,
  { id, phase, message, at }: records.FileServerRecord,
): FileServer['status'] {
  if (!mirror.get(records.leaders, records.fileScannerTask(id)))
    return { phase: 'unavailable', message: 'The file scanner of this server does not run.', since: at };
  return { phase, since: at, ...(message === undefined ? {} : { message }) };
}

/** The descriptor of file servers. */
export const fileServers: ResourceDescriptor<records.FileServerRecord> = describe(fileServer, {
  kind: records.fileServers,
  scope: 'operator',
  show: ({ mirror }, record) => ({
    id: record.id,
    name: record.name,
    status: serverState(mirror, record),
    created_at: record.created_at,
    updated_at: record.created_at,
  }),
  alsoMirrored: [records.leaders],
  handlers: {},
});
