/** Operations. Other resources create them (vm-reboot.ts). */
import { operation } from '../../contract/resources/operations.ts';
import * as records from '../../model/records/index.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';

/** The descriptor of operations. */
export const operations: ResourceDescriptor<records.OperationRecord> = describe(operation, {
  kind: records.operations,
  scope: 'project',
  show: (_api, { options: _options, ...record }) => record,
  indexes: ['target'],
  list: { selectedBy: 'target' },
  handlers: {},
});
