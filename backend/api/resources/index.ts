/** The handlers of all operations of the contract, by operation id. */
import type { Handlers } from '../requests/context.ts';
import { auditRecordHandlers } from './audit-records.ts';
import { capacityCheckHandlers } from './capacity-checks.ts';
import { eventHandlers } from './events.ts';
import { hostHandlers } from './hosts.ts';
import { imageHandlers } from './images.ts';
import { networkHandlers } from './networks.ts';
import { operationHandlers } from './operations.ts';
import { prefixPoolHandlers } from './prefix-pools.ts';
import { prefixHandlers } from './prefixes.ts';
import { projectHandlers } from './projects.ts';
import { settingsHandlers } from './settings.ts';
import { sshKeyHandlers } from './ssh-keys.ts';
import { terraformStateHandlers } from './terraform-states.ts';
import { tokenHandlers } from './tokens.ts';
import { vmHandlers } from './vms.ts';

export const handlers: Handlers = {
  ...projectHandlers,
  ...tokenHandlers,
  ...sshKeyHandlers,
  ...imageHandlers,
  ...prefixPoolHandlers,
  ...prefixHandlers,
  ...networkHandlers,
  ...vmHandlers,
  ...hostHandlers,
  ...operationHandlers,
  ...eventHandlers,
  ...auditRecordHandlers,
  ...terraformStateHandlers,
  ...capacityCheckHandlers,
  ...settingsHandlers,
};
