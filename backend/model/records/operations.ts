/**
 * Operations. The API creates the record, and the component that carries the operation out writes it from then on. The
 * collector of the API ends open operations of a deleted VM.
 */
import { type Static, Type } from '@sinclair/typebox';
import { operationStates } from '../../contract/resources/operations.ts';
import { declared, id, kind, oneOf, time } from './form.ts';

/** `operations/<id>`. */
export const operations = kind('operations/', {
  id: id('operation'),
  project: id('project'),
  kind: oneOf(['vm_reboot']),
  target: Type.String(),
  options: Type.Object({ force: Type.Optional(Type.Boolean()) }),
  state: oneOf(operationStates),
  progress: Type.Integer(),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  finished_at: Type.Optional(time),
  ...declared,
});
export type OperationRecord = Static<typeof operations.schema>;
