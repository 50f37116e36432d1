/** The format of the database (docs/adr/0014). */
import { Type } from '@sinclair/typebox';
import { derivedAddress } from '../network/interface-addresses.ts';
import { networks } from './address-space.ts';
import { hostPolicies, images, snapshotSchedules, snapshots, vms, volumes } from './api.ts';
import { billingAccounts, budgets, endedOrders, endedPrices, endedProducts, products, vatRates } from './billing.ts';
import { kind } from './form.ts';
import { hosts } from './host-agent.ts';
import { operations } from './operations.ts';
import { prefixRoutes } from './routing.ts';
import { securityGroups } from './security-groups.ts';

/**
 * The format that this version understands. It must be raised with every change that older versions would misread: a
 * new value of an enumeration, another meaning, or a field that must not be ignored.
 */
export const currentFormat = 8;

/**
 * `format/store`: the minimum format that a reader must support; 1 if it is missing. A version sets it before it writes
 * records that older versions would misread. Older versions then stop, and do not start again.
 */
export const formats = kind('format/', { reader: Type.Integer({ minimum: 1 }) });

/** The id of the only record in `format/`. */
export const storeFormat = 'store';

type Fields = Readonly<Record<string, unknown>>;

/** Tells by the prefix of a key whether a record needs format 2. An older agent gives an empty disk for such a volume, for example. */
const needsFormat2: Readonly<Record<string, (record: Fields) => boolean>> = {
  // Older agents would fill a volume before the snapshot of its source is complete.
  [volumes.prefix]: ({ image, source_volume }) => image !== undefined || source_volume !== undefined,
  [vms.prefix]: ({ root_volume }) => root_volume !== undefined,
  // Older versions cannot read an image without `source`.
  [images.prefix]: ({ source }) => source === undefined,
  [snapshots.prefix]: ({ consistency, pool, made_for }) =>
    consistency === 'filesystem' || pool !== undefined || made_for !== undefined,
  // Schedules make snapshots of both kinds.
  [snapshotSchedules.prefix]: () => true,
  [operations.prefix]: (record) => record.kind !== 'vm_reboot',
};

const isPart = (value: unknown): boolean => typeof value === 'string' && value.startsWith('snap-');

/** The same for format 3: snapshots with parts. Older versions remove a part, or take it for a snapshot of its own. */
const needsFormat3: Readonly<Record<string, (record: Fields) => boolean>> = {
  [snapshots.prefix]: ({ made_for }) => isPart(made_for),
  [volumes.prefix]: ({ snapshot_part }) => snapshot_part !== undefined,
  [images.prefix]: ({ snapshot_part }) => snapshot_part !== undefined,
};

/** The same for format 4: limits of placement. An older scheduler would place VMs on the wrong hosts. */
const needsFormat4: Readonly<Record<string, (record: Fields) => boolean>> = {
  [vms.prefix]: ({ host_selector }) => host_selector !== undefined,
  [hostPolicies.prefix]: ({ cordoned }) => cordoned === true,
};

/**
 * The same for format 5: networks over many hosts, and VMs that move. An older scheduler writes no members of networks. An
 * older agent refuses the move of a stopped VM.
 */
const needsFormat5: Readonly<Record<string, (record: Fields) => boolean>> = {
  [hosts.prefix]: ({ underlay }) => underlay !== undefined,
  [operations.prefix]: (record) => record.kind === 'vm_move',
};

/** The same for format 6: routed prefixes. An older API would give a part of one to a network. */
const needsFormat6: Readonly<Record<string, (record: Fields) => boolean>> = {
  [prefixRoutes.prefix]: () => true,
};

type VmInterface = Parameters<typeof derivedAddress>[0] & {
  readonly secondary_addresses?: unknown;
  readonly security_groups?: unknown;
};

/**
 * The same for format 7. Chosen addresses, and interfaces that change: an older agent drops packets from such addresses, and
 * an older API never frees them. Security groups and routed networks: an older agent would leave the VMs open to all.
 */
const needsFormat7: Readonly<Record<string, (record: Fields) => boolean>> = {
  [vms.prefix]: ({ interfaces, interfaces_generation }) =>
    interfaces_generation !== undefined ||
    (interfaces as readonly VmInterface[] | undefined)?.some(
      (each) =>
        each.secondary_addresses !== undefined ||
        each.security_groups !== undefined ||
        each.address !== derivedAddress(each),
    ) === true,
  [securityGroups.prefix]: () => true,
  [networks.prefix]: ({ kind }) => kind === 'routed',
};

/**
 * The same for format 8. Accounts that pay, and budgets: an older API creates, resizes and deletes objects without their orders.
 * Ended prices, cancelled orders and VAT rates: an older version would bill without them. Composed products: it
 * would charge what they include.
 */
const needsFormat8: Readonly<Record<string, (record: Fields) => boolean>> = {
  [billingAccounts.prefix]: () => true,
  [budgets.prefix]: () => true,
  [vatRates.prefix]: () => true,
  [products.prefix]: ({ includes }) => includes !== undefined,
  [endedProducts.prefix]: () => true,
  [endedPrices.prefix]: () => true,
  [endedOrders.prefix]: ({ end }) => end === 'cancelled',
};

/** The rules of all formats, the newest first. */
const needs = [
  { format: 8, rules: needsFormat8 },
  { format: 7, rules: needsFormat7 },
  { format: 6, rules: needsFormat6 },
  { format: 5, rules: needsFormat5 },
  { format: 4, rules: needsFormat4 },
  { format: 3, rules: needsFormat3 },
  { format: 2, rules: needsFormat2 },
] as const;

/** Returns the minimum format that a reader of the record (its key, and its JSON) must support. */
export function formatOf(key: string, value: string): number {
  const prefix = key.slice(0, key.indexOf('/') + 1);
  const applicable = needs.filter(({ rules }) => prefix in rules);
  if (applicable.length === 0) return 1;
  const record = JSON.parse(value) as Fields;
  return applicable.find(({ rules }) => rules[prefix]?.(record))?.format ?? 1;
}
