/** Checks of the endpoint and of the token that a person has copied from somewhere. */

const http = (url: URL | null): url is URL => url?.protocol === 'http:' || url?.protocol === 'https:';

/** The error of an endpoint, or undefined. */
export function endpointProblem(text: string): string | undefined {
  const url = URL.parse(text);
  // `localhost:7780` is a URL, whose scheme is `localhost`.
  if (!http(url)) return `"${text}" is no endpoint: it must be a URL such as http://[::1]:7780`;
  // The text is not repeated: it has a password.
  if (url.username || url.password)
    return `The endpoint must not have a user name or a password: write ${url.origin}, and give a token`;
  if (url.pathname !== '/') return `The endpoint "${text}" must not have a path: write ${url.origin}`;
  if (url.search || url.hash) return `The endpoint "${text}" must not have a query or a fragment: write ${url.origin}`;
  return undefined;
}

/** The error of a token, or undefined; it does not repeat the token. */
export function tokenProblem(token: string): string | undefined {
  return /^[\x21-\x7e]+$/.test(token)
    ? undefined
    : 'The token has a blank, a line end or another character in it that no token has. Was more than the token copied?';
}
