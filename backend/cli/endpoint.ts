/** Checks of an endpoint and a token that a user has copied. */

const http = (url: URL | null): url is URL => url?.protocol === 'http:' || url?.protocol === 'https:';

/** Returns the problem of an endpoint; undefined for a valid one. */
export function endpointProblem(text: string): string | undefined {
  const url = URL.parse(text);
  // `localhost:7780` is a URL with the scheme `localhost`.
  if (!http(url)) return `The endpoint "${text}" must be a URL such as http://[::1]:7780`;
  // The error omits the text, because it contains a password.
  if (url.username || url.password)
    return `The endpoint must not have a user name or a password: write ${url.origin}, and give a token`;
  if (url.pathname !== '/') return `The endpoint "${text}" must not have a path: write ${url.origin}`;
  if (url.search || url.hash) return `The endpoint "${text}" must not have a query or a fragment: write ${url.origin}`;
  return undefined;
}

/** Returns the problem of a token; undefined for a valid one. The problem never contains the token. */
export function tokenProblem(token: string): string | undefined {
  return /^[\x21-\x7e]+$/.test(token)
    ? undefined
    : 'The token must not contain blanks, line ends or special characters. Copy only the token.';
}
