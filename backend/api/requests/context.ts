/** What every handler is given and what it gives back. */
import type { Readable } from 'node:stream';
import type { Endpoint } from '../../contract/endpoint.ts';
import type { Id } from '../../contract/fields.ts';
import type { Role } from '../../contract/resources/tokens.ts';
import type { Logger } from '../../model/component.ts';
import type { Revision, Store } from '../../store/store.ts';
import type { KeyedMutex } from '../concurrency/keyed-mutex.ts';
import type { ProjectTurns } from '../concurrency/project-turns.ts';
import type { Callers } from '../http/callers.ts';
import type { HostPoolFeed } from '../read-model/host-pool-feed.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import type { ObjectRevisions } from '../read-model/object-revisions.ts';
import type { QuotaUsage } from '../read-model/quota-usage.ts';
import type { StateKeys } from '../terraform-state/keys.ts';
import type { StateWorkerPool } from '../terraform-state/worker-pool.ts';
import type { DryRun } from '../transaction/dry-run.ts';
import type { Resources } from './descriptor.ts';

export interface ApiContext {
  readonly resources: Resources;
  readonly store: Store;
  readonly mirror: ApiMirror;
  readonly revisions: ObjectRevisions;
  readonly usage: Pick<QuotaUsage, 'of'>;
  readonly hostPool: HostPoolFeed;
  readonly mutexes: KeyedMutex;
  readonly turns: ProjectTurns;
  readonly callers: Callers;
  readonly stateWorkers: StateWorkerPool;
  readonly logger: Logger;
  /** Without them states of Terraform can be neither written nor read. */
  readonly stateKeys?: StateKeys;
  /** Aborted when the API closes: whoever waits answers at once. */
  readonly closing: AbortSignal;
}

/** Who asks. */
export interface Caller {
  readonly token: Id<'token'>;
  readonly role: Role;
  /** None for operators. */
  readonly project?: Id<'project'>;
  /** The bearer token itself; only to derive keys from. */
  readonly secret: string;
  /** Network address. */
  readonly source: string;
  /** Revision of the token's record. */
  readonly since: Revision;
}

/** A request that has passed authentication, authorisation by role, and validation against the contract. */
export interface ApiRequest {
  readonly id: string;
  readonly endpoint: Endpoint;
  readonly caller: Caller;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, unknown>>;
  /** As they came; valid for `endpoint.headers`. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** Valid for `endpoint.body`, defaults filled in. The bytes as they came, unchecked, where the contract says `opaqueBody`. */
  readonly body: unknown;
  readonly ifMatch?: string;
  readonly idempotencyKey?: string;
  /** Nothing is to be written. */
  readonly dryRun?: DryRun;
  /** The one time of this request: every record it writes carries it. */
  readonly now: Date;
  /** Aborted when the client has gone, its token does not work any more, or the API closes. */
  readonly gone: AbortSignal;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body?: object;
  /** JSON as it is to be sent, in place of `body`. */
  readonly content?: {
    readonly size: number;
    /** Base 64. */
    readonly md5?: string;
    readonly data: Buffer | Readable;
  };
  /** Revision that the answer shows, for the header UCloud-Revision. */
  readonly revision: Revision;
  /** Revision of the declaration, for ETag. */
  readonly version?: Revision;
  readonly location?: string;
  readonly replayed?: boolean;
}

/** The project of the token, or an operator's token itself: who is charged with what a request takes. */
export const accountOf = ({ project, token }: Caller): string => project ?? token;

export type Handler = (api: ApiContext, request: ApiRequest) => Promise<ApiAnswer>;
/** By operation id. */
export type Handlers = Readonly<Record<string, Handler>>;
