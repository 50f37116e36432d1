/**
 * The table of all errors. Every failure that leaves a component has one of these codes. The API sends it as problem
 * details (RFC 9457), the provider turns it into a diagnostic, and the documentation lists it.
 *
 * `retry` tells whether the same request with the same Idempotency-Key may succeed later without any change by the
 * user. Clients repeat only these requests.
 */
export interface ErrorDefinition {
  readonly status: number;
  /** A short text, the same for every occurrence (RFC 9457 `title`). */
  readonly title: string;
  readonly meaning: string;
  readonly user: string;
  readonly operator: string;
  readonly retry: boolean;
}

const define = <K extends string>(table: Record<K, ErrorDefinition>): Record<K, ErrorDefinition> => table;

/** All errors by code. `user` and `operator` say what each of them can do. */
export const errorTable = define({
  invalid_input: {
    status: 400,
    title: 'The request breaks a rule of the API',
    meaning: 'A field, parameter or header is missing, unknown, of the wrong type or out of range.',
    user: 'Correct the fields in `errors`. Each has a JSON pointer and the rule.',
    operator: 'Nothing.',
    retry: false,
  },
  unauthenticated: {
    status: 401,
    title: 'No valid token',
    meaning:
      'The Authorization header is missing or malformed, or its token is unknown, revoked or expired. A waiting request ends with this error when its token becomes invalid.',
    user: 'Use a valid token. Terraform and the command `ucloud` take it from UCLOUD_TOKEN or `ucloud login`; other clients send `Authorization: Bearer <token>`.',
    operator: 'Create a new token for the user if the old one is lost: only its hash is stored.',
    retry: false,
  },
  forbidden: {
    status: 403,
    title: 'The token may not do this',
    meaning: 'The token is valid, but its role does not allow this operation.',
    user: 'Use a token with the role of the operation, or ask the operator.',
    operator: 'Check the role of the token.',
    retry: false,
  },
  quota_exceeded: {
    status: 403,
    title: 'The quota of the project is used up',
    meaning: 'The request would exceed the quota that the operator has set for the project.',
    user: 'Delete unneeded objects, reduce the request, or ask the operator for a higher quota.',
    operator: 'Raise the `quota` of the project if the use is legitimate; `GET /v1/projects/{id}/usage` shows it.',
    retry: false,
  },
  billing_account_required: {
    status: 403,
    title: 'The project has no billing account',
    meaning: 'The operator admits no objects that cost money in projects without a billing account.',
    user: 'Ask the operator for a billing account for the project.',
    operator: 'Set `billing_account` of the project, or `billing` of the settings to `optional`.',
    retry: false,
  },
  budget_exceeded: {
    status: 403,
    title: 'The budget is used up',
    meaning: 'The monthly cost of the project or of its billing account would exceed its budget.',
    user: 'Delete unneeded objects, reduce the request, or ask the operator for a higher budget.',
    operator: 'Raise `max_monthly_cost` of the budget if the cost is intended.',
    retry: false,
  },
  account_empty: {
    status: 402,
    title: 'The prepaid account is empty',
    meaning: 'The billing account of the project pays in advance, and its money is used up. Nothing may begin or grow.',
    user: 'Transfer money to the account, or delete unneeded objects.',
    operator: 'Record the payment if the money has arrived; `ucloud billing-account balance` shows the account.',
    retry: false,
  },
  not_found: {
    status: 404,
    title: 'The object does not exist',
    meaning: 'The object does not exist, or belongs to a project that the token may not see.',
    user: 'Check the id and the project of the token.',
    operator: 'Nothing.',
    retry: false,
  },
  method_not_allowed: {
    status: 405,
    title: 'The path does not have this method',
    meaning: 'The path exists, but not with this HTTP method.',
    user: 'Use a method of the Allow header.',
    operator: 'Nothing.',
    retry: false,
  },
  name_taken: {
    status: 409,
    title: 'The name is taken',
    meaning: 'Another object of this kind in the project has the name.',
    user: 'Choose another name, or import the existing object (its id is in `detail`).',
    operator: 'Nothing.',
    retry: false,
  },
  address_taken: {
    status: 409,
    title: 'The address is taken',
    meaning: 'Another object has the requested MAC address, IPv6 address or an overlapping prefix.',
    user: 'Choose another one, or omit the field to let ucloud choose.',
    operator: 'Nothing.',
    retry: false,
  },
  meter_taken: {
    status: 409,
    title: 'The meter has a product',
    meaning: 'Another product charges the same part of a meter. A quantity never has two prices.',
    user: 'Nothing.',
    operator: 'Add a price to the existing product (its id is in `detail`), or choose another pool or length.',
    retry: false,
  },
  price_exists: {
    status: 409,
    title: 'The product has a price from this instant',
    meaning: 'The product already has a price in this currency from the same instant on.',
    user: 'Nothing.',
    operator: 'Choose another instant. A price of the future can be deleted first.',
    retry: false,
  },
  vat_rate_exists: {
    status: 409,
    title: 'The country has a rate from this day',
    meaning: 'An operator has already set a rate of VAT of this country from the same day on.',
    user: 'Nothing.',
    operator: 'Choose another day. A rate of the future can be deleted first.',
    retry: false,
  },
  payment_exists: {
    status: 409,
    title: 'Another payment has this id',
    meaning: 'The payment source has reported a payment with the same `external_id` and another content.',
    user: 'Nothing.',
    operator: 'Compare the payment in `detail` with the payment service. Record a correction by hand if it is wrong.',
    retry: false,
  },
  budget_exists: {
    status: 409,
    title: 'There is a budget already',
    meaning: 'The project or the billing account has a budget. It has at most one.',
    user: 'Nothing.',
    operator: 'Change the existing budget (its id is in `detail`).',
    retry: false,
  },
  in_use: {
    status: 409,
    title: 'Something still uses this',
    meaning:
      'Other objects refer to this one, so it cannot be deleted. `users` has the ids of up to ten of them, and whether they are being deleted.',
    user: 'Delete or change the objects in `detail` first.',
    operator: 'Nothing.',
    retry: false,
  },
  delete_protected: {
    status: 409,
    title: 'The object is protected against deletion',
    meaning: 'The object has `delete_protection`.',
    user: 'Set `delete_protection` to false first.',
    operator: 'Nothing.',
    retry: false,
  },
  being_deleted: {
    status: 409,
    title: 'The object is being deleted',
    meaning: 'The deletion of the object was accepted, so it can no longer be changed or used.',
    user: 'Wait until the object is removed.',
    operator: 'If the object is not removed, check its events and its host.',
    retry: false,
  },
  invalid_state: {
    status: 409,
    title: 'Not possible in the current state',
    meaning: 'The state of the object does not allow this.',
    user: 'Bring the object into the state that `detail` names.',
    operator: 'Nothing.',
    retry: false,
  },
  conflict: {
    status: 409,
    title: 'Another client changed the objects at the same time',
    meaning: 'Concurrent requests changed the same objects in every attempt. This request changed nothing.',
    user: 'Send the request again.',
    operator: 'If this is frequent, look for clients that change the same object.',
    retry: true,
  },
  stale_state: {
    status: 409,
    title: 'The state does not follow the latest version',
    meaning:
      'The Terraform state has another lineage than the stored one, or a serial that is not greater. It comes from an old version, or from another configuration.',
    user: 'Read the latest version and plan again. To return to an earlier version, write it with `force=true`.',
    operator: 'Nothing.',
    retry: false,
  },
  request_timeout: {
    status: 408,
    title: 'The request did not arrive in time',
    meaning: 'The headers or the body were not complete in time. The connection is closed, and nothing was changed.',
    user: 'Send the request again; use a faster connection for a large one.',
    operator: 'Nothing.',
    retry: true,
  },
  precondition_failed: {
    status: 412,
    title: 'The object has changed since you read it',
    meaning: 'If-Match contains an older version than the current one.',
    user: 'Read the object again, and repeat the change if it is still right.',
    operator: 'Nothing.',
    retry: false,
  },
  payload_too_large: {
    status: 413,
    title: 'The request is too large',
    meaning: 'The body exceeds the limit of the operation: 1 MiB, and 32 MiB for Terraform states.',
    user: 'Send a smaller body.',
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
    title: 'The header Expect has an unknown value',
    meaning: 'The only supported value is `100-continue`.',
    user: 'Omit the header Expect.',
    operator: 'Nothing.',
    retry: false,
  },
  invalid_reference: {
    status: 422,
    title: 'A field refers to an object that does not exist',
    meaning: 'The object does not exist in this project, or cannot be used.',
    user: 'Correct the fields in `errors`.',
    operator: 'Nothing.',
    retry: false,
  },
  rule_violated: {
    status: 422,
    title: 'The values break a rule of the cloud',
    meaning:
      'Each value is well-formed, but the values contradict each other or existing objects, such as a prefix outside its pool.',
    user: 'Correct the fields in `errors`.',
    operator: 'Nothing.',
    retry: false,
  },
  state_locked: {
    status: 423,
    title: 'Another client holds the lock of the state',
    meaning: 'The Terraform state is locked, and the request does not contain the ID of the lock.',
    user: 'Wait until the holder in `detail` has finished (`-lock-timeout`). If the holder has crashed, break the lock: `terraform force-unlock`.',
    operator: 'Nothing.',
    retry: false,
  },
  idempotency_key_reused: {
    status: 422,
    title: 'The Idempotency-Key was used for another request',
    meaning: 'An earlier request with another method, path or body used the key.',
    user: 'Use a new key for each new request.',
    operator: 'Nothing.',
    retry: false,
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    meaning:
      'The tokens of the project, or the network address, have used all requests of this period. Or the project has too many open connections, unfinished requests or unread responses. Or it has changed what is ordered too often.',
    user: 'Wait for the time in Retry-After, and read responses as they arrive.',
    operator: 'Raise the limit if the use is legitimate.',
    retry: true,
  },
  headers_too_large: {
    status: 431,
    title: 'The headers are too large',
    meaning: 'Path, query and headers exceed 16 KiB in total. The connection is closed.',
    user: 'Send fewer `ids` in the query, and omit unneeded headers.',
    operator: 'Nothing.',
    retry: false,
  },
  internal: {
    status: 500,
    title: 'An internal error of ucloud',
    meaning: 'An unexpected failure inside ucloud.',
    user: 'Tell the operator the request id.',
    operator: 'Look for the request id in the log.',
    retry: false,
  },
  not_configured: {
    status: 501,
    title: 'This server is not configured for the operation',
    meaning: 'The operation needs a setting that this server does not have.',
    user: 'Tell the operator the missing setting in `detail`.',
    operator: 'Start every API server with the setting in `detail`.',
    retry: false,
  },
  store_unavailable: {
    status: 503,
    title: 'The database does not answer',
    meaning: 'The API could not reach the shared database in time. The result of a write is unknown.',
    user: 'Send the request again with the same Idempotency-Key.',
    operator: 'Check etcd or the disk of the embedded store.',
    retry: true,
  },
  no_capacity: {
    status: 507,
    title: 'The space is exhausted',
    meaning: 'A pool of prefixes, addresses or network numbers has no free part.',
    user: 'Ask the operator, or choose another pool.',
    operator: 'Add a pool or enlarge one.',
    retry: false,
  },
});

/** A code of the error table. */
export type ErrorCode = keyof typeof errorTable;
/** All codes of the error table. */
export const errorCodes = Object.keys(errorTable) as ErrorCode[];

/** A field at fault: a JSON pointer (RFC 6901) into the body, or `#query/<name>`, `#path/<name>`, `#header/<name>`. */
export interface FieldError {
  readonly pointer: string;
  readonly detail: string;
}

/** An expected failure with a code of the table. Components throw it, and rules return it. */
export class UcloudError extends Error {
  readonly code: ErrorCode;
  readonly errors: readonly FieldError[];
  /** Further members of the problem details (RFC 9457, 3.2). */
  readonly members: Readonly<Record<string, unknown>>;
  /** Seconds until the client may send the request again, for the header Retry-After. */
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
