/** Records that only the image scanner writes: the state of each import, and the files that it serves to hosts. */
import { type Static, Type } from '@sinclair/typebox';
import { importSteps } from '../../contract/resources/images.ts';
import { bytes, id, kind, oneOf, time } from './form.ts';

/** `image-reports/<image>`. The API removes the report with the image. */
export const imageReports = kind('image-reports/', {
  phase: oneOf(['importing', 'available', 'error']),
  /** `file_missing` is the only error that is not final. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** The step of a running import, and the percentage of the whole import. */
  step: Type.Optional(oneOf(importSteps)),
  percent: Type.Optional(Type.Integer({ minimum: 0 })),
  /** The bytes that the step has read, and all bytes that it reads, if this is known. */
  bytes: Type.Optional(bytes),
  total_bytes: Type.Optional(bytes),
  sha256: Type.Optional(Type.String()),
  /** The virtual size in bytes. */
  size: Type.Optional(bytes),
  at: time,
});
export type ImageReportRecord = Static<typeof imageReports.schema>;

/**
 * `image-copies/<image>/<server>`: the image server has the file of the image. Only daemons read this record; the API
 * shows no part of it.
 */
export const imageCopies = kind('image-copies/', {
  /** The SHA-256 of the file, in lower-case hex. The file is the converted image and not the source. */
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  /** The size of the file, in bytes. */
  bytes,
  /** The secret of the image for its transfer, in hex. */
  secret: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  at: time,
});
export type ImageCopyRecord = Static<typeof imageCopies.schema>;

/**
 * `image-deliveries/<image>`: the leading image scanner waits for the disk of a snapshot, which the host of the snapshot
 * delivers. Each attempt has a new secret. The leader removes the record. Only daemons read it.
 */
export const imageDeliveries = kind('image-deliveries/', {
  snapshot: id('snapshot'),
  /** `root`, or the id of a volume. */
  disk: Type.String(),
  /** The secret of the delivery, in hex. */
  secret: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  at: time,
});
export type ImageDeliveryRecord = Static<typeof imageDeliveries.schema>;

/** `image-servers/<server>`: an image server, under the lease of its process. So the record ends with the process. */
export const imageServers = kind('image-servers/', {
  /** The URLs of the server without a path, in the order of preference: `https://[2001:db8::1]:7781`. */
  urls: Type.Array(Type.String()),
  /** The image store has a directory `.staging-<store>`. A host that sees this directory needs no copies. */
  store: Type.String(),
  at: time,
});
export type ImageServerRecord = Static<typeof imageServers.schema>;
