/**
 * The transfer of images to hosts: HTTPS with a key that both sides know, instead of a certificate (TLS-PSK, RFC 4279
 * and RFC 7905). The key is the secret of the image in the database, which only daemons read. The handshake proves the
 * secret to both sides and sends it to neither. ECDHE keeps earlier transfers secret if the secret becomes known.
 */

/** The TLS options of both sides. TLS 1.3 of OpenSSL has no such keys with a callback. */
export const imageTransferTls = {
  ciphers: 'ECDHE-PSK-CHACHA20-POLY1305',
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.2',
} as const;

/** The number of random bytes in a secret. Its text is hexadecimal. */
export const imageSecretBytes = 32;

/** Returns the path of an image at an image server. */
export const imageUrlPath = (image: string): string => `/images/${image}`;

/** Returns the identity of a host that delivers the disk of a snapshot for an image. Its key is a secret of the delivery. */
export const deliveryIdentity = (image: string): string => `delivery/${image}`;
/** Returns the image of such an identity; undefined for other identities. */
export const imageOfDelivery = (identity: string): string | undefined => /^delivery\/(.*)$/s.exec(identity)?.[1];
/** Returns the path of a delivery at an image server. */
export const deliveryUrlPath = (image: string): string => `/deliveries/${image}`;
/** The header with the size of the disk in bytes. The body is the whole disk, compressed with zstd. */
export const diskBytesHeader = 'x-disk-bytes';
/** The trailer with the SHA-256 of the disk, in lower-case hex. */
export const diskDigestTrailer = 'x-disk-sha256';

/** The key of the scanner's record in `image-servers/`, and the end of the keys of its records in `image-copies/`. */
export const scannerServer = 'scanner';

/** Returns the id of a record in `image-copies/`. */
export const imageCopyId = (image: string, server: string): string => `${image}/${server}`;

/** Parses the id of a record in `image-copies/`. */
export function parseImageCopyId(id: string): { readonly image: string; readonly server: string } {
  const [image = '', server = ''] = id.split('/');
  return { image, server };
}

/** Returns the name of the leader's directory for incomplete files. It identifies the image store while it leads. */
export const stagingName = (store: string): string => `.staging-${store}`;
