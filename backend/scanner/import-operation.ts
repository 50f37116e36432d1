/** The operation of an import, which follows the report of the image. Pure. */
import type { ErrorCode } from '../contract/errors.ts';
import type { ImageReportRecord, OperationRecord } from '../model/records/index.ts';
import { operations } from '../model/records/index.ts';
import { rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Commit } from '../store/store.ts';

/** The reason in the report of an image whose file is missing. The file may still come, so its import goes on. */
export const fileMissing = 'file_missing';

type Report = Omit<ImageReportRecord, 'at'>;

/** Returns the fields of the operation that the report determines. */
function fieldsOf({ phase, reason, message = '', step, percent, bytes, total_bytes }: Report, code: ErrorCode) {
  if (phase === 'available') return { state: 'succeeded', progress: 100 } as const;
  if (phase === 'error' && reason !== fileMissing) {
    return { state: 'failed', error: { code, message } } as const;
  }
  return { state: 'running', progress: percent, step, bytes, total_bytes } as const;
}

/**
 * Returns the change of an open operation with a report of its image; undefined if the operation has ended.
 * @param code the code of a failure
 */
export function importOperation(
  operation: Stored<OperationRecord>,
  report: Report,
  now: Date,
  code: ErrorCode = 'internal',
): Required<Pick<Commit, 'require' | 'write'>> | undefined {
  const { finished_at, progress: before, step: _step, bytes: _bytes, total_bytes: _total, ...kept } = operation.value;
  if (finished_at !== undefined) return undefined;
  const at = now.toISOString();
  const { state, progress = before, ...fields } = { progress: undefined, ...fieldsOf(report, code) };
  const ended = state !== 'running' && { finished_at: at };
  const next = { ...kept, ...fields, state, progress, updated_at: at, ...ended };
  return { require: [unchanged(operation)], write: [rewrite(operations, operation, next)] };
}
