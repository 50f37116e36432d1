/** The address and the certificate of the API. */
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

/** An address and a port. */
export interface Listen {
  readonly host: string;
  readonly port: number;
}

/**
 * Returns the default address. Without TLS it is reachable only from this machine, because tokens must not be sent in
 * clear text.
 */
export const defaultListen = (tls: boolean): string => (tls ? '[::]:7780' : '[::1]:7780');

/** The description of the default for `--help`. */
export const listenDefault = `Default: ${defaultListen(true)} with TLS, ${defaultListen(false)} without`;

/** Tells whether only this machine can reach the address. */
export const isOnlyHere = ({ host }: Listen): boolean => host === '::1' || host === '127.0.0.1';

/**
 * The default address of the image server. Hosts prove the secret of an image before they get anything, so the server
 * may be reachable.
 */
export const defaultImageListen = '[::]:7781';

/** The description of `--image-listen` for `--help`. */
export const imageListenDescription = 'address and port at which hosts fetch images';

/** Parses `[::]:7780`, `127.0.0.1:80` or `:7780`. @throws Error that names the option */
export function parseListen(text: string, option = '--listen'): Listen {
  const match = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new Error(`${option}: "${text}" is not of the form [address]:port`);
  return { host: match[1] ?? (match[2] || '::'), port };
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another process',
  EADDRNOTAVAIL: 'is not an address of this machine',
  EACCES: 'is not allowed for this user',
  ENOTFOUND: 'is no address',
};

/** Runs `start`, and explains its failure to listen. @throws Error */
export async function listening<T>(text: string, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    const reason = reasons[(error as NodeJS.ErrnoException).code ?? ''];
    throw reason ? new Error(`--listen: ${text} ${reason}`, { cause: error }) : error;
  }
}

/** Reads the certificate chain and its key in PEM; undefined if both are omitted. @throws Error if they do not match */
export function readTls(options: {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}): { readonly cert: string; readonly key: string } | undefined {
  const { tlsCert, tlsKey } = options;
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw new Error('--tls-cert and --tls-key must be given together');
  try {
    const pair = { cert: readFileSync(tlsCert, 'utf8'), key: readFileSync(tlsKey, 'utf8') };
    createSecureContext(pair);
    return pair;
  } catch (error) {
    throw new Error(`--tls-cert and --tls-key: ${(error as Error).message}`, { cause: error });
  }
}

/** The description of `--underlay-address`. */
export const underlayAddressDescription =
  'IPv6 address of this host for tunnels to other hosts. Without it, networks end at this host';
