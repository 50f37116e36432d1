/** Where the API listens, and with which certificate. */
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** Where it listens if nobody says: without TLS for this machine only, as tokens must not travel in the clear. */
export const defaultListen = (tls: boolean): string => (tls ? '[::]:7780' : '[::1]:7780');

/** Its description for `--help`. */
export const listenDefault = `Default: ${defaultListen(true)} with TLS, ${defaultListen(false)} without`;

export const isOnlyHere = ({ host }: Listen): boolean => host === '::1' || host === '127.0.0.1';

/** `[::]:7780`, `127.0.0.1:80`, `:7780`. */
export function parseListen(text: string): Listen {
  const match = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new Error(`--listen: "${text}" is not of the form [address]:port`);
  return { host: match[1] ?? (match[2] || '::'), port };
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another process',
  EADDRNOTAVAIL: 'is no address of this machine',
  EACCES: 'is not for this user to listen on',
  ENOTFOUND: 'is no address',
};

/** Says in words why `start` could not listen there. */
export async function listening<T>(text: string, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    const reason = reasons[(error as NodeJS.ErrnoException).code ?? ''];
    throw reason ? new Error(`--listen: ${text} ${reason}`, { cause: error }) : error;
  }
}

/** Certificate chain and key in PEM, which fit each other; undefined when neither is given. */
export function readTls(options: {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}): { readonly cert: string; readonly key: string } | undefined {
  const { tlsCert, tlsKey } = options;
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw new Error('--tls-cert and --tls-key go together');
  try {
    const pair = { cert: readFileSync(tlsCert, 'utf8'), key: readFileSync(tlsKey, 'utf8') };
    createSecureContext(pair);
    return pair;
  } catch (error) {
    throw new Error(`--tls-cert and --tls-key: ${(error as Error).message}`, { cause: error });
  }
}
