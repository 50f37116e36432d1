/**
 * A self-signed X.509 certificate for one run of the provider. This module writes the DER itself: Node creates keys and
 * signatures, but no certificates, and loading a library for certificates would more than double the start time.
 * RFC 5280; ASN.1 DER: ITU-T X.690.
 *
 * Terraform reads this certificate from the provider's standard output, and trusts no other. It demands the DNS name
 * "localhost", a CA certificate (Terraform verifies the certificate with itself as the CA) and both key usages.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const UTF8_STRING = 0x0c;
const SEQUENCE = 0x30;
const SET = 0x31;
const GENERALIZED_TIME = 0x18;

function der(tag: number, ...content: readonly (Uint8Array | string)[]): Buffer {
  const body = Buffer.concat(content.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  const { length } = body;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), body]);
  if (length < 0x100) return Buffer.concat([Buffer.from([tag, 0x81, length]), body]);
  return Buffer.concat([Buffer.from([tag, 0x82, length >> 8, length & 0xff]), body]);
}

/** Returns an object identifier from its encoded bytes. */
const oid = (hex: string) => der(OBJECT_IDENTIFIER, Buffer.from(hex, 'hex'));
const COMMON_NAME = oid('550403'); // 2.5.4.3
const ECDSA_WITH_SHA256 = oid('2a8648ce3d040302'); // 1.2.840.10045.4.3.2
const KEY_USAGE = oid('551d0f'); // 2.5.29.15
const SUBJECT_ALT_NAME = oid('551d11'); // 2.5.29.17
const BASIC_CONSTRAINTS = oid('551d13'); // 2.5.29.19
const EXTENDED_KEY_USAGE = oid('551d25'); // 2.5.29.37
const SERVER_AUTH = oid('2b06010505070301'); // 1.3.6.1.5.5.7.3.1
const CLIENT_AUTH = oid('2b06010505070302'); // 1.3.6.1.5.5.7.3.2

const TRUE = Buffer.from([0x01, 0x01, 0xff]);
const DAY = 24 * 60 * 60 * 1000;

function generalizedTime(time: number): Buffer {
  return der(GENERALIZED_TIME, `${new Date(time).toISOString().replace(/[-:T]|\.\d+/g, '')}`);
}

export interface Certificate {
  /** The certificate as DER. */
  der: Buffer;
  /** The certificate as PEM. */
  pem: string;
  key: KeyObject;
}

/** Returns a new P-256 key and its certificate for "localhost", valid for a year: longer than any run of Terraform. */
export function createCertificate(now = Date.now()): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const name = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, 'localhost'))));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and no superfluous leading zero
  const algorithm = der(SEQUENCE, ECDSA_WITH_SHA256);
  const extension = (id: Buffer, critical: boolean, value: Buffer) =>
    der(SEQUENCE, id, critical ? TRUE : '', der(OCTET_STRING, value));
  const extensions = der(
    SEQUENCE,
    extension(BASIC_CONSTRAINTS, true, der(SEQUENCE, TRUE)),
    // digitalSignature, keyEncipherment, keyAgreement, keyCertSign: bits 0, 2, 4 and 5, so 2 of 8 bits are unused
    extension(KEY_USAGE, true, der(BIT_STRING, Buffer.from([2, 0b1010_1100]))),
    extension(EXTENDED_KEY_USAGE, false, der(SEQUENCE, SERVER_AUTH, CLIENT_AUTH)),
    extension(SUBJECT_ALT_NAME, false, der(SEQUENCE, der(0x82, 'localhost'))),
  );
  const body = der(
    SEQUENCE,
    der(0xa0, der(INTEGER, Buffer.from([2]))), // version 3
    der(INTEGER, serial),
    algorithm,
    name,
    // The validity begins in the past, because the clock may be set back before Terraform's check.
    der(SEQUENCE, generalizedTime(now - DAY), generalizedTime(now + 365 * DAY)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, extensions),
  );
  const signature = sign('sha256', body, privateKey);
  const certificate = der(SEQUENCE, body, algorithm, der(BIT_STRING, Buffer.from([0]), signature));
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? [];
  return {
    der: certificate,
    pem: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKey,
  };
}
