/**
 * The one error table. Every failure that leaves a component carries one of these codes; the API answers with it as
 * RFC 9457 problem+json, the provider turns it into a diagnostic, the documentation lists it.
 *
 * `retry` says whether the same request, sent again with the same Idempotency-Key, may succeed without anybody
 * changing anything. Clients retry those and no others.
 */
export interface ErrorDefinition {
  readonly status: number;
  /** Short, the same for every occurrence (RFC 9457 `title`). */
  readonly title: string;
  readonly meaning: string;
  readonly user: string;
  readonly operator: string;
  readonly retry: boolean;
}

const define = <K extends string>(table: Record<K, ErrorDefinition>): Record<K, ErrorDefinition> => table;

export const errorTable = define({
  invalid_input: {
    status: 400,
    title: 'The request breaks a rule of the API',
    meaning: 'A field, parameter or header is missing, unknown, of the wrong type or out of range.',
    user: 'Correct the fields named in `errors`; each has a JSON pointer and the rule it breaks.',
    operator: 'Nothing.',
    retry: false,
  },
  unauthenticated: {
    status: 401,
    title: 'No valid token',
    meaning:
      'The Authorization header is missing, malformed, or its token is unknown, revoked or expired. A request that waits ends with this when its token does.',
    user: 'Use a token that is still valid: by UCLOUD_TOKEN or `ucloud login` for Terraform and the command `ucloud`, elsewhere in `Authorization: Bearer <token>`.',
    operator: 'Make a new token for the user if theirs is lost: only its hash is stored.',
    retry: false,
  },
  forbidden: {
    status: 403,
    title: 'The token may not do this',
    meaning: 'The token is valid, but its role does not allow this operation.',
    user: 'Use a token of the role that the operation asks for, or ask the operator.',
    operator: 'Check the role of the token.',
    retry: false,
  },
  quota_exceeded: {
    status: 403,
    title: 'The quota of the project is used up',
    meaning: 'The request would give the project more than the operator lets it have.',
    user: 'Delete what is no longer needed, ask for less, or ask the operator for a higher quota.',
    operator: 'Raise the `quota` of the project if the use is legitimate; `GET /v1/projects/{id}/usage` shows it.',
    retry: false,
  },
  not_found: {
    status: 404,
    title: 'There is no such thing',
    meaning: 'The object does not exist, or belongs to a project that the token may not know of.',
    user: 'Check the id and the project of the token.',
    operator: 'Nothing.',
    retry: false,
  },
  method_not_allowed: {
    status: 405,
    title: 'This path does not have that method',
    meaning: 'The path exists, but not with this HTTP method.',
    user: 'See the Allow header.',
    operator: 'Nothing.',
    retry: false,
  },
  name_taken: {
    status: 409,
    title: 'The name is taken',
    meaning: 'Another object of this kind in the project has the name already.',
    user: 'Choose another name, or import the existing object (its id is in `detail`).',
    operator: 'Nothing.',
    retry: false,
  },
  address_taken: {
    status: 409,
    title: 'The address is taken',
    meaning: 'The MAC address, IPv6 address or prefix asked for is held by another object or overlaps one.',
    user: 'Choose another, or leave the field out and let ucloud choose.',
    operator: 'Nothing.',
    retry: false,
  },
  in_use: {
    status: 409,
    title: 'Something still uses this',
    meaning:
      'Other objects refer to this one, so it cannot be deleted. `users` has the ids of up to ten of them, and says which are being deleted.',
    user: 'Delete or change the objects named in `detail` first.',
    operator: 'Nothing.',
    retry: false,
  },
  delete_protected: {
    status: 409,
    title: 'The object is protected against deletion',
    meaning: 'Its `delete_protection` is on.',
    user: 'Switch `delete_protection` off first.',
    operator: 'Nothing.',
    retry: false,
  },
  being_deleted: {
    status: 409,
    title: 'The object is being deleted',
    meaning: 'A deletion was accepted and is under way; the object cannot be changed or used any more.',
    user: 'Wait until it is gone.',
    operator: 'If it stays, look at the events of the object and at its host.',
    retry: false,
  },
  invalid_state: {
    status: 409,
    title: 'Not possible in the present state',
    meaning: 'The object is not in a state that allows this.',
    user: '`detail` names the state that is needed.',
    operator: 'Nothing.',
    retry: false,
  },
  conflict: {
    status: 409,
    title: 'Changed by somebody else at the same time',
    meaning:
      'Concurrent requests kept changing the same objects and this one did not get through. Nothing was changed.',
    user: 'Send it again.',
    operator: 'If frequent, look for clients that fight over one object.',
    retry: true,
  },
  stale_state: {
    status: 409,
    title: 'The state does not follow the latest version',
    meaning:
      'A state of Terraform has another lineage than the one that is kept, or a serial that is not greater than its own: it was made from an old version, or belongs to another configuration.',
    user: 'Read the latest version and plan again. To go back to an earlier version on purpose, write it with `force=true`.',
    operator: 'Nothing.',
    retry: false,
  },
  request_timeout: {
    status: 408,
    title: 'The request did not arrive in time',
    meaning: 'Headers or body were not complete in time, and the connection is closed. Nothing was changed.',
    user: 'Send it again, over a faster connection if it is large.',
    operator: 'Nothing.',
    retry: true,
  },
  precondition_failed: {
    status: 412,
    title: 'The object has changed since you read it',
    meaning: 'If-Match names an older version than the present one.',
    user: 'Read the object again and decide anew.',
    operator: 'Nothing.',
    retry: false,
  },
  payload_too_large: {
    status: 413,
    title: 'The request is too large',
    meaning: 'The body exceeds the limit of the operation: 1 MiB, for states of Terraform 32 MiB.',
    user: 'Send less.',
    operator: 'Nothing.',
    retry: false,
  },
  unsupported_media_type: {
    status: 415,
    title: 'The body is not JSON',
    meaning: 'Content-Type must be application/json.',
    user: 'Send JSON with the right Content-Type.',
    operator: 'Nothing.',
    retry: false,
  },
  expectation_failed: {
    status: 417,
    title: 'The header Expect asks for something unknown',
    meaning: 'The only expectation that is met is `100-continue`.',
    user: 'Leave the header Expect out.',
    operator: 'Nothing.',
    retry: false,
  },
  invalid_reference: {
    status: 422,
    title: 'A field refers to something that is not there',
    meaning: 'The object that the field names does not exist in this project or cannot be used.',
    user: 'Correct the fields named in `errors`.',
    operator: 'Nothing.',
    retry: false,
  },
  rule_violated: {
    status: 422,
    title: 'The values do not go together',
    meaning:
      'Each value is well-formed, but together or with what exists they break a rule, such as a prefix outside its pool.',
    user: 'Correct the fields named in `errors`.',
    operator: 'Nothing.',
    retry: false,
  },
  state_locked: {
    status: 423,
    title: 'Somebody else holds the lock of the state',
    meaning: 'A state of Terraform is locked, and the request does not carry the ID of that lock.',
    user: 'Wait until the holder, named in `detail`, is done (`-lock-timeout`). If it has died, break the lock: `terraform force-unlock`.',
    operator: 'Nothing.',
    retry: false,
  },
  idempotency_key_reused: {
    status: 422,
    title: 'The Idempotency-Key was used for another request',
    meaning: 'The key belongs to an earlier request with a different method, path or body.',
    user: 'Use a new key for each new request.',
    operator: 'Nothing.',
    retry: false,
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    meaning:
      'The tokens of the project together, or the network address, have used up their requests for this period. Or too many requests of the project are under way: connections, bodies that arrive, answers that are not read.',
    user: 'Wait as long as Retry-After says, and read answers as they come.',
    operator: 'Raise the limit if the use is legitimate.',
    retry: true,
  },
  headers_too_large: {
    status: 431,
    title: 'The headers are too large',
    meaning: 'Path, query and headers of the request together exceed 16 KiB. The connection is closed.',
    user: 'Send less: fewer `ids` in a query, no headers that are not needed.',
    operator: 'Nothing.',
    retry: false,
  },
  internal: {
    status: 500,
    title: 'A fault in ucloud',
    meaning: 'Something unforeseen failed.',
    user: 'Tell the operator the request id.',
    operator: 'Look for the request id in the log.',
    retry: false,
  },
  not_configured: {
    status: 501,
    title: 'This server is not set up for it',
    meaning: 'The operation needs something that the operator has not given to this server.',
    user: 'Tell the operator what `detail` says is missing.',
    operator: 'Start every API server with what `detail` names.',
    retry: false,
  },
  store_unavailable: {
    status: 503,
    title: 'The database does not answer',
    meaning: 'The shared database could not be reached in time. Whether a write took effect is not known.',
    user: 'Send it again with the same Idempotency-Key.',
    operator: 'Check etcd or the disk of the embedded store.',
    retry: true,
  },
  no_capacity: {
    status: 507,
    title: 'Nothing is left to give',
    meaning: 'A pool of prefixes, addresses or network numbers is exhausted.',
    user: 'Ask the operator, or choose another pool.',
    operator: 'Add a pool or enlarge one.',
    retry: false,
  },
});

export type ErrorCode = keyof typeof errorTable;
export const errorCodes = Object.keys(errorTable) as ErrorCode[];

/** One offending field: an RFC 6901 JSON pointer into the body, or `#query/<name>`, `#path/<name>`, `#header/<name>`. */
export interface FieldError {
  readonly pointer: string;
  readonly detail: string;
}

/** An expected failure with a code of the table. Thrown at the edges, returned by rules. */
export class UcloudError extends Error {
  readonly code: ErrorCode;
  readonly errors: readonly FieldError[];
  /** Further members of the problem (RFC 9457, 3.2). */
  readonly members: Readonly<Record<string, unknown>>;
  /** Seconds after which the request may be sent again, for the header Retry-After. */
  readonly retryAfter: number | undefined;
  constructor(
    code: ErrorCode,
    detail: string,
    options: {
      errors?: readonly FieldError[];
      members?: Readonly<Record<string, unknown>>;
      retryAfter?: number;
      cause?: unknown;
    } = {},
  ) {
    super(detail, { cause: options.cause });
    this.name = 'UcloudError';
    this.code = code;
    this.errors = options.errors ?? [];
    this.members = options.members ?? {};
    this.retryAfter = options.retryAfter;
  }
  get status(): number {
    return errorTable[this.code].status;
  }
}
