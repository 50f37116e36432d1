import type * as records from '../../model/records/index.ts';
import type { Handlers } from '../requests/context.ts';
import { type ListOptions, listHandler } from '../requests/get-and-list.ts';
import { events } from './views.ts';

const byTarget: ListOptions<records.EventRecord> = {
  plain: true,
  extra: ({ target }) => (target === undefined ? undefined : (record) => record.target === target),
  source({ mirror }, { target, order }, after) {
    if (typeof target !== 'string') return undefined;
    return order === 'newest'
      ? mirror.eventsByTarget.listBackwards(target, after)
      : mirror.eventsByTarget.list(target, after);
  },
};

export const eventHandlers: Handlers = { event_list: listHandler(events, byTarget) };
