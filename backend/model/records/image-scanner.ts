/** Records that only the image scanner writes: the state of each import. */
import { type Static, Type } from '@sinclair/typebox';
import { importSteps } from '../../contract/resources/images.ts';
import { bytes, kind, oneOf, time } from './form.ts';

/** `image-reports/<image>`. The API removes the report with the image. */
export const imageReports = kind('image-reports/', {
  phase: oneOf(['importing', 'available', 'error']),
  /** `file_missing` is the only error that is not final. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** The step of a running import, and the percentage of the whole import. */
  step: Type.Optional(oneOf(importSteps)),
  percent: Type.Optional(Type.Integer({ minimum: 0 })),
  sha256: Type.Optional(Type.String()),
  /** The virtual size in bytes. */
  size: Type.Optional(bytes),
  at: time,
});
export type ImageReportRecord = Static<typeof imageReports.schema>;
