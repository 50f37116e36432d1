/**
 * Operations. The API creates the record, and the component that carries the operation out writes it from then on. The
 * collector of the API ends open operations of a deleted VM, and the API those of a deleted image.
 */
import { type Static, Type } from '@sinclair/typebox';
import { importSteps } from '../../contract/resources/images.ts';
import { operationKinds, operationStates } from '../../contract/resources/operations.ts';
import { bytes, declared, id, kind, oneOf, time } from './form.ts';

/** `operations/<id>`. */
export const operations = kind('operations/', {
  id: id('operation'),
  project: id('project'),
  kind: oneOf(operationKinds),
  target: Type.String(),
  options: Type.Object({
    force: Type.Optional(Type.Boolean()),
    /** The snapshot of a restore, and its disks: `root`, or ids of volumes. */
    snapshot: Type.Optional(id('snapshot')),
    disks: Type.Optional(Type.Array(Type.String())),
    /** The host that a move asks for. */
    host: Type.Optional(id('host')),
  }),
  state: oneOf(operationStates),
  progress: Type.Integer(),
  /** The step of an import, and its bytes, as in the report of the image. */
  step: Type.Optional(oneOf(importSteps)),
  bytes: Type.Optional(bytes),
  total_bytes: Type.Optional(bytes),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  finished_at: Type.Optional(time),
  ...declared,
});
export type OperationRecord = Static<typeof operations.schema>;
