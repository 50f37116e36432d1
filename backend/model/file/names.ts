/** Ids of files, and reserved names. */
import { createHash } from 'node:crypto';
import type { Id } from '../../contract/fields.ts';

/** The name of the file in the root of a file server that contains the id of the server. */
export const serverMarker = '.ucloud-file-server';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

/** Returns the id of the file with this name: 80 bits of a hash, so that it is the same after a crash. */
export function fileId(server: Id<'file_server'>, project: Id<'project'>, name: Uint8Array): Id<'file'> {
  const hash = createHash('sha256').update(`${server}/${project}/`).update(name).digest();
  let bits = 0n;
  for (const byte of hash.subarray(0, 10)) bits = (bits << 8n) | BigInt(byte);
  let text = '';
  for (let i = 0; i < 16; i++, bits >>= 5n) text = alphabet[Number(bits & 31n)] + text;
  return `file-${text}` as Id<'file'>;
}
