import type * as records from '../../model/records/index.ts';
import type { Handlers } from '../requests/context.ts';
import { getHandler, type ListOptions, listHandler } from '../requests/get-and-list.ts';
import { operations } from './views.ts';

const byTarget: ListOptions<records.OperationRecord> = {
  extra: ({ target }) => (target === undefined ? undefined : (record) => record.target === target),
  source: ({ mirror }, { target }, after) =>
    typeof target === 'string' ? mirror.operationsByTarget.list(target, after) : undefined,
};

export const operationHandlers: Handlers = {
  operation_list: listHandler(operations, byTarget),
  operation_get: getHandler(operations),
};
