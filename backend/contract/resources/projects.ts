import { Type } from '@sinclair/typebox';
import { crud, type Endpoint, idParams } from '../endpoint.ts';
import { common, DeleteProtection, Description, exampleId, IdOf, Labels, Name, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { nothingUsed, ProjectUsage, Quota } from './quotas.ts';

/** The resource of projects. */
export const project = resource({
  noun: 'project',
  plural: 'projects',
  description: 'The objects of one customer or team. Every VM, network and prefix belongs to a project.',
  immutable: {},
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    delete_protection: DeleteProtection,
    quota: Quota,
    billing_account: Type.Optional(
      Reference('billing_account', {
        description:
          'Billing account that pays for the project from now on. A project without one costs nothing. Default: none.',
      }),
    ),
  },
  readonly: { id: IdOf('project'), ...common },
  defaulted: ['description', 'labels', 'delete_protection'],
  optional: ['quota', 'billing_account'],
});
export type Project = ItemType<typeof project>;
export type ProjectCreate = CreateType<typeof project>;
export type ProjectBody = BodyType<typeof project>;
export type ProjectUpdate = UpdateType<typeof project>;

const example: Project = {
  id: exampleId('project'),
  name: 'acme',
  description: 'ACME Ltd.',
  labels: {},
  delete_protection: false,
  quota: { vms: 20, memory: '64GiB' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 7,
};

const usage: ProjectUsage = {
  project: example.id,
  quota: example.quota,
  used: {
    ...nothingUsed,
    vms: 12,
    cpus: 16,
    memory: '24GiB',
    disk: '240GiB',
    networks: 2,
    prefixes: 1,
    subnets: 256,
    images: 1,
    ssh_keys: 3,
    tokens: 2,
    terraform_states: 1,
    terraform_state_size: '2MiB',
  },
  revision: 42,
};

/** The endpoints of projects. */
export const projectEndpoints = {
  ...crud(project, {
    read: 'viewer',
    write: 'operator',
    billing: true,
    scoped: false,
    updateErrors: ['invalid_reference'],
    deleteErrors: ['delete_protected'],
    example: {
      create: { name: 'acme', description: 'ACME Ltd.', quota: example.quota },
      item: example,
      update: { description: 'ACME Inc.', quota: { vms: 30, memory: '64GiB' } },
    },
  }),
  usage: {
    id: 'project_usage',
    method: 'GET',
    path: '/v1/projects/{id}/usage',
    tag: 'projects',
    summary: 'Get the quota and the usage of a project',
    access: 'viewer',
    params: idParams('project'),
    success: {
      status: 200,
      description: 'The quota and the usage of the project.',
      schema: ProjectUsage,
      example: usage,
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
