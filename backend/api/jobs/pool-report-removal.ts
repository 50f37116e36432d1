/** The removal of reports on storage pools by hosts that the operator has removed. No agent removes them. */
import * as records from '../../model/records/index.ts';
import { parsePoolReportId } from '../../model/storage/pool.ts';
import { absent, remove } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { Removal } from './collector.ts';

/** The removal of reports on storage pools, for the collector. */
export const poolReportRemoval: Removal = {
  noun: 'report on a storage pool',
  *initial({ mirror }) {
    for (const { id } of mirror.list(records.poolReports)) yield id;
  },
  *affected(change, { mirror }) {
    if (isChangeOf(records.poolReports, change)) yield change.id;
    if (!isChangeOf(records.hosts, change) || change.stored !== undefined) return;
    for (const { id } of mirror.list(records.poolReports)) if (parsePoolReportId(id).host === change.id) yield id;
  },
  isDue: ({ mirror }, id) =>
    mirror.get(records.poolReports, id) !== undefined &&
    mirror.get(records.hosts, parsePoolReportId(id).host) === undefined,
  async remove({ store }, id) {
    const { ok } = await store.commit({
      require: [absent(records.hosts, parsePoolReportId(id).host)],
      write: [remove(records.poolReports, id), remove(records.poolMarkers, id)],
    });
    return ok;
  },
};
