/** Every endpoint of the API, in the order of the document. */
import { auditRecordEndpoints } from './audit-records.ts';
import { capacityCheckEndpoints } from './capacity-checks.ts';
import type { Endpoint } from './endpoint.ts';
import { eventEndpoints } from './events.ts';
import { hostEndpoints } from './hosts.ts';
import { imageEndpoints } from './images.ts';
import { networkEndpoints } from './networks.ts';
import { operationEndpoints } from './operations.ts';
import { prefixPoolEndpoints } from './prefix-pools.ts';
import { prefixEndpoints } from './prefixes.ts';
import { projectEndpoints } from './projects.ts';
import { settingsEndpoints } from './settings.ts';
import { sshKeyEndpoints } from './ssh-keys.ts';
import { terraformStateEndpoints } from './terraform-states.ts';
import { tokenEndpoints } from './tokens.ts';
import { vmEndpoints } from './vms.ts';

export const endpoints: readonly Endpoint[] = [
  projectEndpoints,
  tokenEndpoints,
  sshKeyEndpoints,
  imageEndpoints,
  prefixPoolEndpoints,
  prefixEndpoints,
  networkEndpoints,
  vmEndpoints,
  hostEndpoints,
  operationEndpoints,
  eventEndpoints,
  auditRecordEndpoints,
  terraformStateEndpoints,
  capacityCheckEndpoints,
  settingsEndpoints,
].flatMap((group) => Object.values(group));
