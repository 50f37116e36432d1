/**
 * Public SSH keys: the check whether OpenSSH accepts a line. A key that OpenSSH refuses would lock its owner out, so
 * the whole blob is parsed: RFC 4253, 6.6 (RSA), RFC 5656, 3.1 (ECDSA), RFC 8709, 4 (Ed25519) and PROTOCOL.u2f of
 * OpenSSH (sk-). The provider gets a copy of this file, so that a plan uses the same rule. Therefore the file imports
 * no other file of ucloud.
 */
import { createPublicKey } from 'node:crypto';

const curves = { nistp256: ['P-256', 32], nistp384: ['P-384', 48], nistp521: ['P-521', 66] } as const;
type Curve = keyof typeof curves;

const minRsaBits = 1024;
const maxRsaBits = 16384;

class Flaw extends Error {}

/** Reads the fields of a blob in order. */
class Blob {
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Returns a string: a length of four bytes, and then the bytes. */
  string(): Buffer {
    const start = this.#at + 4;
    if (start > this.#bytes.length) throw new Flaw('is cut off');
    const end = start + this.#bytes.readUInt32BE(this.#at);
    if (end > this.#bytes.length) throw new Flaw('is cut off');
    this.#at = end;
    return this.#bytes.subarray(start, end);
  }

  text(): string {
    const bytes = this.string();
    // OpenSSH allows a NUL only at the end of its strings.
    const nul = bytes.indexOf(0);
    if (nul >= 0 && nul < bytes.length - 1) throw new Flaw('holds a NUL where text is to be');
    return bytes.subarray(0, nul < 0 ? undefined : nul).toString('latin1');
  }

  /** Returns a positive integer (mpint of RFC 4251, 5) without its leading zeros. */
  integer(): Buffer {
    const bytes = this.string();
    if (((bytes[0] ?? 0) & 0x80) !== 0) throw new Flaw('holds a negative number');
    const most = maxRsaBits / 8;
    if (bytes.length > most + 1 || (bytes.length === most + 1 && bytes[0] !== 0)) {
      throw new Flaw(`holds a number of more than ${maxRsaBits} bits`);
    }
    const first = bytes.findIndex((byte) => byte !== 0);
    return first < 0 ? bytes.subarray(bytes.length) : bytes.subarray(first);
  }

  end(): void {
    if (this.#at < this.#bytes.length) throw new Flaw('goes on after its end');
  }
}

const bitsOf = (number: Buffer): number =>
  number.length === 0 ? 0 : (number.length - 1) * 8 + (32 - Math.clz32(number[0] ?? 0));

function readRsa(blob: Blob): void {
  blob.integer(); // the exponent
  const bits = bitsOf(blob.integer());
  if (bits < minRsaBits) throw new Flaw(`has ${bits} bits: OpenSSH takes RSA keys of at least ${minRsaBits}`);
}

function readEd25519(blob: Blob): void {
  const { length } = blob.string();
  if (length !== 32) throw new Flaw(`has ${length} bytes where Ed25519 has 32`);
}

const readEcdsa =
  (curve: Curve) =>
  (blob: Blob): void => {
    const named = blob.text();
    if (named !== curve) throw new Flaw(`is of another curve than ${curve}`);
    const point = blob.string();
    const [crv, size] = curves[curve];
    if (point[0] !== 4 || point.length !== 1 + 2 * size) throw new Flaw(`has no uncompressed point of ${curve}`);
    const [x, y] = [point.subarray(1, 1 + size), point.subarray(1 + size)].map((part) => part.toString('base64url'));
    try {
      createPublicKey({ key: { kty: 'EC', crv, x, y }, format: 'jwk' });
    } catch {
      throw new Flaw(`has a point that is not on ${curve}`);
    }
  };

/** Reads a key of a security token, which ends with its application. */
const withApplication =
  (read: (blob: Blob) => void) =>
  (blob: Blob): void => {
    read(blob);
    blob.text();
  };

/** The readers by the first word of the line. */
const readers = new Map<string, (blob: Blob) => void>([
  ['ssh-ed25519', readEd25519],
  ['ssh-rsa', readRsa],
  ['ecdsa-sha2-nistp256', readEcdsa('nistp256')],
  ['ecdsa-sha2-nistp384', readEcdsa('nistp384')],
  ['ecdsa-sha2-nistp521', readEcdsa('nistp521')],
  ['sk-ssh-ed25519@openssh.com', withApplication(readEd25519)],
  ['sk-ecdsa-sha2-nistp256@openssh.com', withApplication(readEcdsa('nistp256'))],
]);

/** The rule for public keys; it completes the sentence "must be …". */
export const sshPublicKeyRule = 'one line in the format of OpenSSH: type, base64, comment';

/** Returns the line without white space around it. Files of ssh-keygen end with a line end. */
export const normalSshPublicKey = (text: string): string => text.trim();

/** Returns the bytes of the base64 in the line. */
export const sshPublicKeyBlob = (text: string): Buffer =>
  Buffer.from(normalSshPublicKey(text).split(' ')[1] ?? '', 'base64');

/** Returns why OpenSSH refuses the line, as a clause after the field name; undefined if it accepts the line. */
export function sshPublicKeyProblem(text: string): string | undefined {
  const line = normalSshPublicKey(text);
  if (line.startsWith('-----BEGIN ')) return `must be ${sshPublicKeyRule}, not a PEM file`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x1f\x7f]/.test(line))
    return `must be ${sshPublicKeyRule}; it has a line break or another control character`;
  const [type = '', base64 = ''] = line.split(' ', 2);
  const read = readers.get(type);
  if (!read) return `must be ${sshPublicKeyRule}; the types are ${[...readers.keys()].join(', ')}`;
  const bytes = Buffer.from(base64, 'base64');
  if (base64 === '' || bytes.toString('base64') !== base64) {
    return `must be ${sshPublicKeyRule}; its second word is no base64, or is cut off`;
  }
  try {
    const blob = new Blob(bytes);
    if (blob.text() !== type) return `must be a key of the type that it names, ${type}`;
    read(blob);
    blob.end();
    return undefined;
  } catch (error) {
    if (error instanceof Flaw) return `must be a key that OpenSSH takes, but this one ${error.message}`;
    throw error;
  }
}
