/** What holds for the whole cloud, for operators to set. There is one of it, so it has no id. */
import { type Static, Type } from '@sinclair/typebox';
import type { Endpoint } from '../endpoint.ts';
import { Timestamp, Whole } from '../fields.ts';
import { Quota } from './quotas.ts';

const description = 'What holds for the whole cloud.';
const defaultQuota =
  'The quota of projects whose creation gives none. What is left out is not limited. A change is for new projects: those that exist keep what they have.';

export const Settings = Type.Object(
  {
    default_quota: Type.Unsafe<Quota>({ ...Quota, description: defaultQuota }),
    updated_at: Type.Optional(Timestamp({ description: 'When they were last changed; never, if it is missing.' })),
    revision: Whole({ description: 'Revision of the database at which they last changed; 0 if they never were.' }),
  },
  { additionalProperties: false, title: 'Settings', description },
);
export type Settings = Static<typeof Settings>;

export const SettingsUpdate = Type.Object(
  {
    default_quota: Type.Optional(
      Type.Union([Type.Unsafe<Quota>({ ...Quota, description: defaultQuota }), Type.Null()]),
    ),
  },
  {
    additionalProperties: false,
    title: 'SettingsUpdate',
    minProperties: 1,
    description: 'Settings to change; the others stay. `null` puts one back to its default: no limits.',
  },
);
export type SettingsUpdate = Static<typeof SettingsUpdate>;

const example: Settings = {
  default_quota: { vms: 20, memory: '64GiB', terraform_states: 50, terraform_state_size: '1GiB' },
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 9,
};

const shared = { path: '/v1/settings', tag: 'settings', access: 'operator' } as const;

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
    errors: ['conflict', 'payload_too_large', 'unsupported_media_type'],
  },
} as const satisfies Record<string, Endpoint>;
