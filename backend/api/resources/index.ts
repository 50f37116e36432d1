/**
 * All resources. The API derives from their descriptors what the mirror contains, what quotas count, what long polls wait
 * for, and the handlers of get and list.
 */
import type { Endpoint } from '../../contract/endpoint.ts';
import type { Handlers } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { getHandler, listHandler } from '../requests/get-and-list.ts';
import { auditRecordHandlers } from './audit-records.ts';
import { bgpPeers } from './bgp-peers.ts';
import { billingAccounts } from './billing-accounts.ts';
import { bills } from './bills.ts';
import { budgets } from './budgets.ts';
import { capacityCheckHandlers } from './capacity-checks.ts';
import { events } from './events.ts';
import { fileServers } from './file-servers.ts';
import { files } from './files.ts';
import { hosts } from './hosts.ts';
import { images } from './images.ts';
import { legalEntities } from './legal-entities.ts';
import { networks } from './networks.ts';
import { operations } from './operations.ts';
import { orders } from './orders.ts';
import { paymentSources } from './payment-sources.ts';
import { payments } from './payments.ts';
import { prefixPools } from './prefix-pools.ts';
import { prefixRoutes } from './prefix-routes.ts';
import { prefixes } from './prefixes.ts';
import { prices } from './prices.ts';
import { products } from './products.ts';
import { projects } from './projects.ts';
import { quoteHandlers } from './quotes.ts';
import { securityGroups } from './security-groups.ts';
import { settingsHandlers } from './settings.ts';
import { snapshotSchedules } from './snapshot-schedules.ts';
import { snapshots } from './snapshots.ts';
import { sshKeys } from './ssh-keys.ts';
import { storagePools } from './storage-pools.ts';
import { terraformStates } from './terraform-states/descriptor.ts';
import { tokens } from './tokens.ts';
import { uploads } from './uploads.ts';
import { vatRates } from './vat-rates.ts';
import { vms } from './vms.ts';
import { volumeAttachments } from './volume-attachments.ts';
import { volumes } from './volumes.ts';

/** The descriptors of all resources. */
export const resources: readonly ResourceDescriptor[] = [
  projects,
  tokens,
  sshKeys,
  files,
  fileServers,
  uploads,
  images,
  prefixPools,
  prefixes,
  networks,
  securityGroups,
  vms,
  volumes,
  volumeAttachments,
  prefixRoutes,
  snapshots,
  snapshotSchedules,
  storagePools,
  bgpPeers,
  hosts,
  operations,
  events,
  terraformStates,
  legalEntities,
  billingAccounts,
  budgets,
  products,
  prices,
  orders,
  bills,
  payments,
  paymentSources,
  vatRates,
];

/** The handlers of operations that belong to no resource with records in the mirror. */
const others: Handlers = { ...auditRecordHandlers, ...capacityCheckHandlers, ...quoteHandlers, ...settingsHandlers };

/** Returns the handlers of all operations, by operation id. Get and list exist where the contract has them. */
export function handlersFor(endpoints: readonly Endpoint[]): Handlers {
  const standard: Handlers = Object.fromEntries(
    resources.flatMap((descriptor) => [
      [`${descriptor.noun}_list`, listHandler(descriptor)],
      [`${descriptor.noun}_get`, getHandler(descriptor)],
    ]),
  );
  const offered = endpoints.flatMap(({ id }) => (standard[id] ? [[id, standard[id]] as const] : []));
  return Object.assign(Object.fromEntries(offered), others, ...resources.map(({ handlers }) => handlers));
}
