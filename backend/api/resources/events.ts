/** Events of objects. Components write them, and the API only lists them. */
import { EventItem } from '../../contract/resources/events.ts';
import * as records from '../../model/records/index.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';

const contract = { noun: 'event', plural: 'events', Item: EventItem } as const;

/** The descriptor of events. */
export const events: ResourceDescriptor<records.EventRecord> = describe(contract, {
  kind: records.events,
  scope: 'project',
  show: (_api, record) => record,
  indexes: ['target'],
  list: { plain: true, selectedBy: 'target' },
  handlers: {},
});
