/** Failures of a request that Node does not report. Their codes have the form of Node's codes. */

/** The connection, the beginning of the answer, or its next part took too long. */
export class Timeout extends Error {
  readonly code: 'CONNECT_TIMEOUT' | 'HEADERS_TIMEOUT' | 'BODY_TIMEOUT';
  constructor(code: Timeout['code']) {
    super(code);
    this.code = code;
  }
}

/** The proxy did not let the request pass. */
export class ProxyRefusal extends Error {
  readonly code: 'PROXY_AUTHENTICATION' | 'PROXY_REFUSED';
  constructor(status: number) {
    super(`the proxy answered with ${status}`);
    this.code = status === 407 ? 'PROXY_AUTHENTICATION' : 'PROXY_REFUSED';
  }
}

/** A kept connection broke during its next use. */
export class StaleConnection extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}

/** The body of the request could not be read. */
export class BodyFailure extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}
