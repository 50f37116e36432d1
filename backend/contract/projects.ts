import { crud } from './endpoint.ts';
import { common, DeleteProtection, Description, IdOf, Labels, Name } from './fields.ts';
import { type CreateType, type ItemType, resource, type UpdateType } from './resource.ts';

export const project = resource({
  noun: 'project',
  plural: 'projects',
  description: 'What one customer or team owns. Every VM, network and prefix belongs to a project.',
  immutable: {},
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('project'), ...common },
  optional: ['description', 'labels', 'delete_protection'],
});
export type Project = ItemType<typeof project>;
export type ProjectCreate = CreateType<typeof project>;
export type ProjectUpdate = UpdateType<typeof project>;

const example: Project = {
  id: 'prj-0123456789abcdef',
  name: 'acme',
  description: 'ACME Ltd.',
  labels: {},
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 7,
};

export const projectEndpoints = crud(project, {
  read: 'viewer',
  write: 'operator',
  scoped: false,
  deleteErrors: ['delete_protected'],
  example: { create: { name: 'acme', description: 'ACME Ltd.' }, item: example, update: { description: 'ACME Inc.' } },
});
