/** The settings of the whole cloud. Only one such object exists, so it has no id. */
import { type Static, Type } from '@sinclair/typebox';
import type { Endpoint } from '../endpoint.ts';
import { Enum, exampleId, LabelKey, Reference, Timestamp, Whole } from '../fields.ts';
import { Quota } from './quotas.ts';

const description = 'Settings of the whole cloud.';
const defaultQuota =
  'Quota of new projects without a quota of their own. Omitted kinds have no limit. A change does not affect existing projects.';
const defaultPool = 'Storage pool of new volumes that name none. Without a setting, it is the built-in pool.';

/** The orders in which the scheduler prefers hosts. */
export const placementStrategies = ['spread', 'pack'] as const;
export type PlacementStrategy = (typeof placementStrategies)[number];

const PlacementStrategyField = Enum(placementStrategies, {
  description:
    'The host that a new VM gets, if several hosts can take it. `spread`: the host with the largest free share, so that hosts are used equally. `pack`: the host with the smallest free share, so that the VMs use few hosts and large VMs find empty ones. The free share of a host is that of its scarcest resource. A change moves no VM. Default: `spread`.',
});
const SelectableHostLabels = Type.Array(LabelKey, {
  maxItems: 64,
  uniqueItems: true,
  description:
    'Keys of host labels that all users may name in `host_selector`. Users can find out the values of these labels, and how many hosts have them. Operators may name all labels. A change does not affect existing VMs. Default: none.',
});

/** The rules for projects without a billing account. */
export const billingRules = ['optional', 'required'] as const;
export type BillingRule = (typeof billingRules)[number];
const BillingField = Enum(billingRules, {
  description:
    'Projects without a billing account. `optional`: they cost nothing. `required`: the API refuses new VMs, volumes, snapshots and prefixes in them, and larger ones. Existing objects stay. Default: `optional`.',
});

/** The schema of the settings. */
export const Settings = Type.Object(
  {
    default_quota: Type.Unsafe<Quota>({ ...Quota, description: defaultQuota }),
    default_storage_pool: Reference('storage_pool', { description: defaultPool }),
    placement_strategy: PlacementStrategyField,
    selectable_host_labels: SelectableHostLabels,
    billing: BillingField,
    updated_at: Type.Optional(Timestamp({ description: 'Time of the last change; missing if there was none.' })),
    revision: Whole({ description: 'Revision of the last change; 0 if there was none.' }),
  },
  { additionalProperties: false, title: 'Settings', description },
);
export type Settings = Static<typeof Settings>;

/** The schema of a change of the settings. */
export const SettingsUpdate = Type.Object(
  {
    default_quota: Type.Optional(
      Type.Union([Type.Unsafe<Quota>({ ...Quota, description: defaultQuota }), Type.Null()]),
    ),
    default_storage_pool: Type.Optional(
      Type.Union([Reference('storage_pool', { description: defaultPool }), Type.Null()]),
    ),
    placement_strategy: Type.Optional(Type.Union([PlacementStrategyField, Type.Null()])),
    selectable_host_labels: Type.Optional(Type.Union([SelectableHostLabels, Type.Null()])),
    billing: Type.Optional(Type.Union([BillingField, Type.Null()])),
  },
  {
    additionalProperties: false,
    title: 'SettingsUpdate',
    minProperties: 1,
    description: 'The settings to change. Others keep their values. `null` sets a setting to its default.',
  },
);
export type SettingsUpdate = Static<typeof SettingsUpdate>;

const example: Settings = {
  default_quota: { vms: 20, memory: '64GiB', terraform_states: 50, terraform_state_size: '1GiB' },
  default_storage_pool: exampleId('storage_pool'),
  placement_strategy: 'spread',
  selectable_host_labels: ['zone'],
  billing: 'optional',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 9,
};

const shared = { path: '/v1/settings', tag: 'settings', access: 'operator' } as const;

/** The endpoints of the settings. */
export const settingsEndpoints = {
  get: {
    ...shared,
    id: 'settings_get',
    method: 'GET',
    summary: 'Get the settings of the cloud',
    description,
    success: { status: 200, description: 'The settings.', schema: Settings, example },
    errors: [],
  },
  update: {
    ...shared,
    id: 'settings_update',
    method: 'PATCH',
    summary: 'Change the settings of the cloud',
    description,
    body: SettingsUpdate,
    bodyExample: { default_quota: example.default_quota },
    success: { status: 200, description: 'Changed.', schema: Settings, example },
    errors: ['conflict', 'invalid_reference', 'payload_too_large', 'unsupported_media_type'],
  },
} as const satisfies Record<string, Endpoint>;
