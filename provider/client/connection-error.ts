/** Errors of requests that got no answer of the API: the problem, advice for the user, and whether a retry may help. */

interface ErrorKind {
  /** Error codes of Node, including those of OpenSSL, and codes of connection-failure.ts. */
  readonly codes: readonly string[];
  /** The problem, as a clause after the address of the API. */
  readonly problem: string;
  readonly action: string;
  /** The problem does not pass by itself, so the client does not retry. */
  readonly permanent?: true;
  /** There was no connection, so the client has sent nothing. */
  readonly unsent?: true;
}

/** The known kinds of errors. The troubleshooting guide lists them too. */
export const kinds: readonly ErrorKind[] = [
  {
    codes: ['PROXY_AUTHENTICATION'],
    problem: 'the proxy wants another user name and password (407)',
    action: 'Write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT.',
    permanent: true,
  },
  {
    codes: ['PROXY_REFUSED'],
    problem: 'the proxy does not connect to it',
    action: 'Does the proxy allow this address and port? NO_PROXY lists the hosts for direct connections.',
    unsent: true,
  },
  {
    codes: ['ECONNREFUSED'],
    problem: 'nothing listens there (ECONNREFUSED)',
    action: 'Is `endpoint` right, and is the API running?',
    unsent: true,
  },
  {
    codes: ['ENOTFOUND', 'EAI_AGAIN'],
    problem: 'its host name is not known (ENOTFOUND)',
    action: 'Is `endpoint` spelled right, and does this machine have DNS?',
    unsent: true,
  },
  {
    codes: ['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL'],
    problem: 'there is no route to it',
    action: 'Does this machine have IPv6 as far as there? `ping` and `traceroute -6` tell more.',
    unsent: true,
  },
  {
    codes: ['CONNECT_TIMEOUT', 'ETIMEDOUT'],
    problem: 'no connection within 10 seconds',
    action: 'Is `endpoint` right, and does a firewall drop the packets?',
  },
  {
    codes: ['HEADERS_TIMEOUT', 'BODY_TIMEOUT'],
    problem: 'it took the request and did not answer in time',
    action: 'It may be overloaded. `request_timeout` in the provider block says how long to wait.',
  },
  {
    codes: ['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN'],
    problem: 'its certificate is signed by nobody that this machine trusts',
    action: 'Set `ca_file`, or UCLOUD_CA_FILE, to the PEM file of the CA of your cloud.',
    permanent: true,
  },
  {
    codes: ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'],
    problem: 'its certificate is signed by nobody that this machine trusts',
    action:
      'Set `ca_file`, or UCLOUD_CA_FILE, to the PEM file of the CA of your cloud. Or the API does not send the intermediate certificates.',
    permanent: true,
  },
  {
    codes: ['ERR_TLS_CERT_ALTNAME_INVALID'],
    problem: 'its certificate is for another name',
    action: 'Use a name in `endpoint` that the certificate has, or is this another server?',
    permanent: true,
  },
  {
    codes: ['CERT_HAS_EXPIRED'],
    problem: 'its certificate has expired',
    action: 'The operator of the API has to renew it. Or is the clock of this machine wrong?',
    permanent: true,
  },
  {
    codes: ['CERT_NOT_YET_VALID'],
    problem: 'its certificate is not valid yet',
    action: 'Is the clock of this machine wrong?',
    permanent: true,
  },
  {
    codes: ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG'],
    problem: 'the server at this address does not speak TLS',
    action: 'Should `endpoint` begin with http://, or have another port?',
    permanent: true,
  },
  {
    codes: ['ECONNRESET', 'EPIPE', 'HPE_INVALID_CONSTANT'],
    problem: 'it closed the connection without an answer',
    action: 'Is it being restarted? Or does it speak TLS, so that `endpoint` has to begin with https://?',
  },
];

/** A request got no answer of the API. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly retryable: boolean;
  /** True if the request may have arrived. */
  readonly sent: boolean;
  /** The advice for the user; empty for an unknown error. */
  readonly action: string;

  /**
   * @param origin the address of the API
   * @param cause the error of the connection
   * @param proxy the proxy of the request, if there was one
   */
  constructor(origin: string, cause: unknown, proxy?: string) {
    const failures = flatten(cause);
    const kind = kinds.find(({ codes }) => failures.some((failure) => codes.includes(codeOf(failure))));
    const route = proxy === undefined ? '' : ` by the proxy ${proxy}`;
    super(`${origin}${route}: ${kind?.problem ?? failures.map(textOf).join('; ')}`, { cause });
    this.retryable = kind?.permanent !== true;
    this.sent = kind?.permanent !== true && kind?.unsent !== true;
    const proxyAdvice =
      proxy === undefined ? '' : 'Is the proxy right? NO_PROXY lists the hosts for direct connections.';
    this.action = [kind?.action, kind?.action.includes('proxy') ? '' : proxyAdvice].filter(Boolean).join(' ');
  }
}

/** Returns all errors in an AggregateError, in which Node collects the failures of several addresses. */
const flatten = (error: unknown): unknown[] =>
  error instanceof AggregateError && error.errors.length > 0 ? error.errors.flatMap(flatten) : [error];

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

const textOf = (error: unknown): string =>
  (error instanceof Error ? error.message || error.name : String(error)).trim();
