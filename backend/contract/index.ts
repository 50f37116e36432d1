/** Every endpoint of the API, in the order of the document. */

import type { Endpoint } from './endpoint.ts';
import { auditRecordEndpoints } from './resources/audit-records.ts';
import { bgpPeerEndpoints } from './resources/bgp-peers.ts';
import { billingAccountEndpoints } from './resources/billing-accounts.ts';
import { billEndpoints } from './resources/bills.ts';
import { budgetEndpoints } from './resources/budgets.ts';
import { capacityCheckEndpoints } from './resources/capacity-checks.ts';
import { eventEndpoints } from './resources/events.ts';
import { fileServerEndpoints } from './resources/file-servers.ts';
import { fileEndpoints } from './resources/files.ts';
import { hostEndpoints } from './resources/hosts.ts';
import { imageEndpoints } from './resources/images.ts';
import { legalEntityEndpoints } from './resources/legal-entities.ts';
import { networkEndpoints } from './resources/networks.ts';
import { operationEndpoints } from './resources/operations.ts';
import { orderEndpoints } from './resources/orders.ts';
import { paymentSourceEndpoints } from './resources/payment-sources.ts';
import { paymentEndpoints } from './resources/payments.ts';
import { prefixPoolEndpoints } from './resources/prefix-pools.ts';
import { prefixRouteEndpoints } from './resources/prefix-routes.ts';
import { prefixEndpoints } from './resources/prefixes.ts';
import { priceEndpoints } from './resources/prices.ts';
import { productEndpoints } from './resources/products.ts';
import { projectEndpoints } from './resources/projects.ts';
import { quoteEndpoints } from './resources/quotes.ts';
import { securityGroupEndpoints } from './resources/security-groups.ts';
import { settingsEndpoints } from './resources/settings.ts';
import { snapshotScheduleEndpoints } from './resources/snapshot-schedules.ts';
import { snapshotEndpoints } from './resources/snapshots.ts';
import { sshKeyEndpoints } from './resources/ssh-keys.ts';
import { storagePoolEndpoints } from './resources/storage-pools.ts';
import { terraformStateEndpoints } from './resources/terraform-states.ts';
import { tokenEndpoints } from './resources/tokens.ts';
import { uploadEndpoints } from './resources/uploads.ts';
import { vatRateEndpoints } from './resources/vat-rates.ts';
import { vmEndpoints } from './resources/vms.ts';
import { volumeAttachmentEndpoints } from './resources/volume-attachments.ts';
import { volumeEndpoints } from './resources/volumes.ts';

/** All endpoints of the API, in the order of openapi.yaml. */
export const endpoints: readonly Endpoint[] = [
  projectEndpoints,
  tokenEndpoints,
  sshKeyEndpoints,
  fileEndpoints,
  fileServerEndpoints,
  uploadEndpoints,
  imageEndpoints,
  prefixPoolEndpoints,
  prefixEndpoints,
  networkEndpoints,
  securityGroupEndpoints,
  vmEndpoints,
  volumeEndpoints,
  volumeAttachmentEndpoints,
  prefixRouteEndpoints,
  snapshotEndpoints,
  snapshotScheduleEndpoints,
  storagePoolEndpoints,
  bgpPeerEndpoints,
  hostEndpoints,
  legalEntityEndpoints,
  billingAccountEndpoints,
  budgetEndpoints,
  productEndpoints,
  priceEndpoints,
  orderEndpoints,
  quoteEndpoints,
  billEndpoints,
  paymentEndpoints,
  paymentSourceEndpoints,
  vatRateEndpoints,
  operationEndpoints,
  eventEndpoints,
  auditRecordEndpoints,
  terraformStateEndpoints,
  capacityCheckEndpoints,
  settingsEndpoints,
].flatMap((group) => Object.values(group));
