/** The audit is long and rarely read, so it is read from the database and not kept in memory. */
import type { AuditRecord } from '../../contract/resources/audit-records.ts';
import * as records from '../../model/records/index.ts';
import { parseRecord } from '../../store/record-codec.ts';
import type { Handlers } from '../requests/context.ts';
import { notFound } from '../requests/objects.ts';
import { decodePageToken, encodePageToken } from '../requests/page-token.ts';

interface Query {
  readonly limit?: number;
  readonly page_token?: string;
  readonly project?: string;
  readonly target?: string;
}

const pageSize = 1000;
/**
 * The number of records that one request reads. The page may then be shorter than the limit, with a token for the next.
 */
const maxRecordsRead = 20_000;

/** The handlers of audit records. */
export const auditRecordHandlers: Handlers = {
  async audit_record_list(api, request) {
    const { limit = 100, page_token, project, target } = request.query as Query;
    if (project !== undefined && !api.mirror.get(records.projects, project)) throw notFound('project', project);
    const { prefix } = records.auditRecords;
    let after = page_token === undefined ? undefined : prefix + decodePageToken(page_token);
    const items: AuditRecord[] = [];
    for (let read = 0; ; ) {
      const page = await api.store.list(prefix, { limit: pageSize, ...(after === undefined ? {} : { after }) });
      for (const entry of page.entries) {
        const { value } = parseRecord(records.auditRecords, entry);
        const wanted =
          (project === undefined || value.project === project) && (target === undefined || value.target === target);
        read++;
        if (wanted && items.length < limit) items.push(value);
        after = entry.key;
        const more = page.more || entry !== page.entries.at(-1);
        if (more && (items.length === limit || read >= maxRecordsRead)) {
          const next_page_token = encodePageToken(entry.key.slice(prefix.length));
          return {
            status: 200,
            body: { items, next_page_token, revision: page.revision },
            revision: page.revision,
          };
        }
      }
      if (!page.more) return { status: 200, body: { items, revision: page.revision }, revision: page.revision };
    }
  },
};
