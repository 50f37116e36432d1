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
    problem: 'the proxy requires another user name and password (407)',
    action: 'Write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT.',
    permanent: true,
  },
  {
    codes: ['PROXY_REFUSED'],
    problem: 'the proxy does not connect to it',
    action: 'Allow this address and port in the proxy, or add the host to NO_PROXY.',
    unsent: true,
  },
  {
    codes: ['ECONNREFUSED'],
    problem: 'nothing listens there (ECONNREFUSED)',
    action: 'Check `endpoint`, and that the API is running.',
    unsent: true,
  },
  {
    codes: ['ENOTFOUND', 'EAI_AGAIN'],
    problem: 'its host name is not known (ENOTFOUND)',
    action: 'Check the spelling of `endpoint`, and the DNS of this machine.',
    unsent: true,
  },
  {
    codes: ['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL'],
    problem: 'there is no route to it',
    action: 'Check the IPv6 connection of this machine, for instance with `ping` and `traceroute -6`.',
    unsent: true,
  },
  {
    codes: ['CONNECT_TIMEOUT', 'ETIMEDOUT'],
    problem: 'no connection within 10 seconds',
    action: 'Check `endpoint`, and that no firewall drops the packets.',
  },
  {
    codes: ['HEADERS_TIMEOUT', 'BODY_TIMEOUT'],
    problem: 'it took the request and did not answer in time',
    action: 'The API may be overloaded. To wait longer, set `request_timeout` in the provider block.',
  },
  {
    codes: ['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN'],
    problem: 'this machine does not trust the signer of its certificate',
    action: 'Set `ca_file`, or UCLOUD_CA_FILE, to the PEM file of the CA of your cloud.',
    permanent: true,
  },
  {
    codes: ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'],
    problem: 'this machine does not trust the signer of its certificate',
    action:
      'Set `ca_file`, or UCLOUD_CA_FILE, to the PEM file of the CA of your cloud. Another cause is an API that does not send its intermediate certificates.',
    permanent: true,
  },
  {
    codes: ['ERR_TLS_CERT_ALTNAME_INVALID'],
    problem: 'its certificate is for another name',
    action: 'Use a name in `endpoint` that the certificate contains. Another cause is a wrong server at this address.',
    permanent: true,
  },
  {
    codes: ['CERT_HAS_EXPIRED'],
    problem: 'its certificate has expired',
    action: 'The operator of the API must renew it. Another cause is a wrong clock of this machine.',
    permanent: true,
  },
  {
    codes: ['CERT_NOT_YET_VALID'],
    problem: 'its certificate is not valid yet',
    action: 'Check the clock of this machine.',
    permanent: true,
  },
  {
    codes: ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG'],
    problem: 'the server at this address does not speak TLS',
    action: 'Check the port of `endpoint`, and whether it must begin with http://.',
    permanent: true,
  },
  {
    codes: ['ECONNRESET', 'EPIPE', 'HPE_INVALID_CONSTANT'],
    problem: 'it closed the connection without an answer',
    action: 'The API may be restarting. If the API speaks TLS, `endpoint` must begin with https://.',
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
    const proxyAdvice = proxy === undefined ? '' : 'Check the proxy, or add the host to NO_PROXY.';
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
