/** The input and the output of handlers. */
import type { Readable } from 'node:stream';
import type { Endpoint } from '../../contract/endpoint.ts';
import type { Id } from '../../contract/fields.ts';
import type { Role } from '../../contract/resources/tokens.ts';
import type { Logger } from '../../model/component.ts';
import type { Revision, Store } from '../../store/store.ts';
import type { OrderTurnover } from '../billing/order-turnover.ts';
import type { KeyedMutex } from '../concurrency/keyed-mutex.ts';
import type { ProjectTurns } from '../concurrency/project-turns.ts';
import type { Callers } from '../http/callers.ts';
import type { HostPoolFeed } from '../read-model/host-pool-feed.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import type { ObjectRevisions } from '../read-model/object-revisions.ts';
import type { PriceLists } from '../read-model/price-lists.ts';
import type { ProjectUse } from '../read-model/project-use.ts';
import type { QuotaUsage } from '../read-model/quota-usage.ts';
import type { StateKeys } from '../terraform-state/keys.ts';
import type { StateWorkerPool } from '../terraform-state/worker-pool.ts';
import type { DryRun } from '../transaction/dry-run.ts';
import type { UploadServer } from '../uploads/server.ts';
import type { Resources } from './descriptor.ts';

/** The parts of the API that handlers use. */
export interface ApiContext {
  readonly resources: Resources;
  readonly store: Store;
  readonly mirror: ApiMirror;
  readonly revisions: ObjectRevisions;
  readonly usage: Pick<QuotaUsage, 'of'>;
  readonly prices: Pick<PriceLists, 'of' | 'currencies'>;
  readonly projectUse: Pick<ProjectUse, 'of'>;
  readonly turnover: Pick<OrderTurnover, 'check'>;
  readonly hostPool: HostPoolFeed;
  readonly mutexes: KeyedMutex;
  readonly turns: ProjectTurns;
  readonly callers: Callers;
  readonly stateWorkers: StateWorkerPool;
  readonly logger: Logger;
  /** The keys of Terraform states. Without them states can be neither written nor read. */
  readonly stateKeys?: StateKeys;
  /** The uploads. Without a directory of files there are none. */
  readonly uploads?: UploadServer;
  /** Aborted when the API closes. Waiting requests are then answered. */
  readonly closing: AbortSignal;
}

/** The authenticated caller of a request. */
export interface Caller {
  readonly token: Id<'token'>;
  readonly role: Role;
  /** The project of the token; undefined for operators. */
  readonly project?: Id<'project'>;
  /** The account of a token of role `billing`. */
  readonly billing_account?: Id<'billing_account'>;
  /** The bearer token, only for the derivation of keys. */
  readonly secret: string;
  /** The network address of the client. */
  readonly source: string;
  /** The revision of the token's record. */
  readonly since: Revision;
}

/** A request that has passed authentication, authorisation by role, and validation against the contract. */
export interface ApiRequest {
  readonly id: string;
  readonly endpoint: Endpoint;
  readonly caller: Caller;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, unknown>>;
  /** The headers as received, valid for `endpoint.headers`. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** The body with defaults, valid for `endpoint.body`. With `opaqueBody` it is the received bytes, unchecked. */
  readonly body: unknown;
  /** The unread body, with `streamBody`. */
  readonly stream?: Readable;
  readonly ifMatch?: string;
  readonly idempotencyKey?: string;
  /** The settings of a dry run. The handler then writes nothing. */
  readonly dryRun?: DryRun;
  /** The time of this request. Every record that the request writes contains it. */
  readonly now: Date;
  /** Aborted when the client disconnects, its token becomes invalid, or the API closes. */
  readonly gone: AbortSignal;
}

/** The response of a handler. */
export interface ApiAnswer {
  readonly status: number;
  readonly body?: object;
  /** Bytes that are sent in place of `body`. */
  readonly content?: {
    /** The media type. Default: that of JSON. */
    readonly type?: string;
    readonly size: number;
    /** MD5 in base 64. */
    readonly md5?: string;
    readonly data: Buffer | Readable;
  };
  /** The revision that the response shows, for the header UCloud-Revision. */
  readonly revision: Revision;
  /** The revision of the declaration, for ETag. */
  readonly version?: Revision;
  readonly location?: string;
  /** Further headers of the response. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly replayed?: boolean;
}

/** Returns the owner of the resources that the caller's requests use: the project, the billing account, or an operator's token. */
export const accountOf = ({ project, billing_account, token }: Caller): string => project ?? billing_account ?? token;

/** Carries out one operation. @throws UcloudError every refusal */
export type Handler = (api: ApiContext, request: ApiRequest) => Promise<ApiAnswer>;
/** The handlers by operation id. */
export type Handlers = Readonly<Record<string, Handler>>;
