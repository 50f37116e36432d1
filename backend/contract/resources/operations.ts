import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Reference, Timestamp, Whole } from '../fields.ts';
import { type ItemType, resource } from '../resource.ts';
import { importSteps } from './images.ts';

/** The states of an operation. The last two are final. */
export const operationStates = ['pending', 'running', 'succeeded', 'failed'] as const;

/** The actions. */
export const operationKinds = ['vm_reboot', 'vm_restore', 'vm_move', 'image_import'] as const;

/** The resource of operations. */
export const operation = resource({
  noun: 'operation',
  plural: 'operations',
  description:
    'A requested action on an object that takes time, such as a reboot, a restore, a move or the import of an image. Ended operations are kept for 7 days, and at most 1,000 per project.',
  immutable: {},
  mutable: {},
  readonly: {
    id: IdOf('operation'),
    project: Reference('project', { description: 'Project of its target.' }),
    kind: Enum(operationKinds, { description: 'The action.' }),
    target: Type.String({ description: 'Id of the object.' }),
    state: Enum(operationStates, { description: 'State of the operation. `succeeded` and `failed` are final.' }),
    progress: Type.Integer({ minimum: 0, maximum: 100, description: 'Progress in per cent.' }),
    step: Type.Optional(Enum(importSteps, { description: 'Current step of an import.' })),
    bytes: Type.Optional(Whole({ description: 'Bytes that the current step has read.' })),
    total_bytes: Type.Optional(Whole({ description: 'Bytes that the current step reads, if this is known.' })),
    error: Type.Optional(
      Type.Object(
        { code: Type.String({ description: 'A code of the error table.' }), message: Type.String() },
        { additionalProperties: false, description: 'Reason of the failure.' },
      ),
    ),
    finished_at: Type.Optional(Timestamp({ description: 'Time of the end.' })),
    ...common,
  },
});
export type Operation = ItemType<typeof operation>;

/** The example of an operation in responses of other resources. */
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
/** The endpoints of operations. */
export const operationEndpoints = { list, get };
