import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Reference, Timestamp } from '../fields.ts';
import { type ItemType, resource } from '../resource.ts';

export const operationStates = ['pending', 'running', 'succeeded', 'failed'] as const;

export const operation = resource({
  noun: 'operation',
  plural: 'operations',
  description:
    'Something asked for that takes time, such as a reboot: who follows it sees how it goes and how it ended. Kept for 7 days after its end, of one project the last 1,000.',
  immutable: {},
  mutable: {},
  readonly: {
    id: IdOf('operation'),
    project: Reference('project', { description: 'Project of its target.' }),
    kind: Enum(['vm_reboot'], { description: 'What is done.' }),
    target: Type.String({ description: 'Id of the object it is done to.' }),
    state: Enum(operationStates, { description: 'How far it is. `succeeded` and `failed` are final.' }),
    progress: Type.Integer({ minimum: 0, maximum: 100, description: 'Per cent done.' }),
    error: Type.Optional(
      Type.Object(
        { code: Type.String({ description: 'A code of the error table.' }), message: Type.String() },
        { additionalProperties: false, description: 'Why it failed.' },
      ),
    ),
    finished_at: Type.Optional(Timestamp({ description: 'When it ended.' })),
    ...common,
  },
});
export type Operation = ItemType<typeof operation>;

export const operationExample: Operation = {
  id: exampleId('operation'),
  project: exampleId('project'),
  kind: 'vm_reboot',
  target: exampleId('vm'),
  state: 'running',
  progress: 50,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:01.000Z',
  revision: 40,
};

const { list, get } = crud(operation, {
  read: 'viewer',
  write: 'operator',
  scoped: true,
  extraListQuery: {
    target: Type.Optional(Type.String({ maxLength: 64, description: 'Only operations on this object.' })),
  },
  example: { create: {}, item: operationExample, update: {} },
});
export const operationEndpoints = { list, get };
