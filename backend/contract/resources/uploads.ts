import { Type } from '@sinclair/typebox';
import { type Endpoint, idParams } from '../endpoint.ts';

/** The media type of the body of an upload (tus 1.0). */
export const uploadMediaType = 'application/offset+octet-stream';
/** The maximum size of an uploaded file, in bytes. */
export const maxUploadBytes = 2 ** 40;

const tus = {
  'tus-resumable': Type.String({ maxLength: 16, description: 'Version of the protocol: `1.0.0`.' }),
};
const whole = (description: string) =>
  Type.String({ pattern: '^(0|[1-9][0-9]{0,14})$', 'x-rule': 'a whole number', description });

const shared = {
  tag: 'uploads',
  description:
    'Resumable uploads of files by the protocol [tus 1.0](https://tus.io/protocols/resumable-upload) with the extensions creation, expiration and termination. A complete upload becomes a file of the project.',
} as const;
const one = { ...shared, params: idParams('upload'), headers: Type.Object(tus) };

/** The endpoints of uploads. */
export const uploadEndpoints = {
  create: {
    ...shared,
    id: 'upload_create',
    method: 'POST',
    path: '/v1/uploads',
    summary: 'Begin an upload',
    description: `${shared.description} The file server must have room for the file, and the quota must allow it. An unfinished upload expires after a day.`,
    access: 'member',
    headers: Type.Object({
      ...tus,
      'upload-length': whole('Size of the file in bytes, at most 1 TiB.'),
      'upload-metadata': Type.String({
        minLength: 1,
        maxLength: 4096,
        description:
          'Comma-separated pairs of a key and a value in base 64. `name`: name of the file, at most 255 bytes of UTF-8 without slash, control characters and a dot at its beginning; a file with this name is replaced. `sha256`: SHA-256 of the file in hex. `project`: id of the project; default: the project of the token.',
      }),
    }),
    success: {
      status: 201,
      description: 'Created. `Location` is the path of the upload.',
      headers: ['Location', 'Tus-Resumable', 'Upload-Expires', 'UCloud-File'],
    },
    errors: [
      'conflict',
      'payload_too_large',
      'precondition_failed',
      'invalid_reference',
      'rule_violated',
      'quota_exceeded',
      'not_configured',
    ],
  },
  offset: {
    ...one,
    id: 'upload_offset',
    method: 'HEAD',
    path: '/v1/uploads/{id}',
    summary: 'Get the offset of an upload',
    access: 'member',
    success: {
      status: 200,
      description:
        'The bytes that the server has are in `Upload-Offset`. The upload is complete when they equal `Upload-Length`.',
      headers: ['Tus-Resumable', 'Upload-Offset', 'Upload-Length', 'Upload-Expires', 'UCloud-File'],
    },
    errors: ['not_found', 'precondition_failed', 'conflict', 'rule_violated', 'not_configured'],
  },
  write: {
    ...one,
    id: 'upload_write',
    method: 'PATCH',
    path: '/v1/uploads/{id}',
    summary: 'Send bytes of an upload',
    description:
      'The last bytes complete the upload: the server verifies the SHA-256 and moves the file to its place. If the SHA-256 is another one, nothing remains. The server closes a connection that brings no bytes for 30 s; the whole request has no time limit.',
    access: 'member',
    headers: Type.Object({ ...tus, 'upload-offset': whole('The offset of the first byte of the body.') }),
    streamBody: { mediaType: uploadMediaType },
    success: {
      status: 204,
      description: 'The bytes are stored.',
      headers: ['Tus-Resumable', 'Upload-Offset', 'Upload-Expires', 'UCloud-File'],
    },
    errors: [
      'not_found',
      'conflict',
      'payload_too_large',
      'unsupported_media_type',
      'precondition_failed',
      'rule_violated',
      'not_configured',
    ],
  },
  delete: {
    ...one,
    id: 'upload_delete',
    method: 'DELETE',
    path: '/v1/uploads/{id}',
    summary: 'Cancel an upload',
    description: 'Removes an unfinished upload with its bytes. A file of a complete upload stays.',
    access: 'member',
    success: { status: 204, description: 'Removed.', headers: ['Tus-Resumable'] },
    errors: ['not_found', 'precondition_failed', 'conflict', 'not_configured'],
  },
} as const satisfies Record<string, Endpoint>;
