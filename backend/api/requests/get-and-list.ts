/** Get and list, the same for every kind of object: visibility, filters, pages, long polls. */
import { idPrefixes } from '../../contract/fields.ts';
import * as records from '../../model/records/index.ts';
import { matches, parseSelector, type Selector } from '../../model/text/selectors.ts';
import type { ChangeWaitOptions, RecordChange } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import { isSignOfLife, observations } from '../read-model/object-revisions.ts';
import { type ApiAnswer, type ApiContext, type ApiRequest, accountOf, type Handler } from './context.ts';
import {
  type DeclaredRecord,
  find,
  isVisible,
  notFound,
  presentObject,
  projectOf,
  type ResourceDescriptor,
} from './descriptor.ts';
import { decodePageToken, encodePageToken } from './page-token.ts';
import { fieldError } from './validation.ts';

const mostIds = 100;

interface WaitQuery {
  readonly after?: number;
  readonly timeout?: number;
}

/** Kinds whose changes change how objects of this kind look. */
const shownKinds = (kind: RecordKind): readonly RecordKind[] => [kind, ...(observations.get(kind.prefix) ?? [])];

const deadline = ({ timeout = 30 }: WaitQuery): number => performance.now() + timeout * 1000;

export const getHandler =
  <R extends DeclaredRecord>(served: ResourceDescriptor<R>): Handler =>
  async (api, request) => {
    const { id = '' } = request.params;
    const query: WaitQuery = request.query;
    const until = deadline(query);
    for (;;) {
      const stored = find(api, served, request.caller, id);
      const item = presentObject(api, served, stored, request.caller);
      const left = until - performance.now();
      if (query.after === undefined || item.revision > query.after || left <= 0 || request.gone.aborted) {
        return { status: 200, body: item, revision: api.mirror.revision, version: versionOf(api, served, stored) };
      }
      const host = served.kind.prefix === records.vms.prefix ? api.mirror.get(records.schedules, id)?.value.host : id;
      await api.mirror.waitForChange({
        // What changed up to here has been looked at above.
        after: api.mirror.revision,
        of: [
          ...shownKinds(served.kind).map((kind) => ({ kind, id })),
          ...(observations.has(served.kind.prefix) && host !== undefined ? [{ kind: records.alive, id: host }] : []),
        ],
        predicate: isNews,
        timeoutMs: left,
        signal: request.gone,
      });
      if (!request.gone.aborted) await api.turns.take(accountOf(request.caller));
    }
  };

const isNews = (change: RecordChange): boolean => change.kind.prefix !== records.alive.prefix || isSignOfLife(change);

/** Revision of the declaration. That of a host is its policy, where it has one. */
export function versionOf<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  stored: Stored<R>,
): number {
  if (served.kind.prefix !== records.hosts.prefix) return stored.revision;
  return api.mirror.get(records.hostPolicies, stored.id)?.revision ?? stored.revision;
}

interface Filter<R> {
  readonly project?: string;
  readonly name?: string;
  readonly ids?: ReadonlySet<string>;
  readonly selector?: Selector;
  readonly extra?: (record: R) => boolean;
}

interface ListQuery extends WaitQuery {
  readonly limit?: number;
  readonly page_token?: string;
  readonly selector?: string;
  readonly name?: string;
  readonly ids?: string;
  readonly project?: string;
  /** Ids are in the order of time where a list has this. */
  readonly order?: 'oldest' | 'newest';
}

export interface ListOptions<R> {
  /** A further condition from the query. */
  readonly extra?: (query: Readonly<Record<string, unknown>>) => ((record: R) => boolean) | undefined;
  /** The contract shows no `revision` in the items. */
  readonly plain?: boolean;
  /** A narrower source than all records of the kind or the project. */
  readonly source?: (
    api: ApiContext,
    query: Readonly<Record<string, unknown>>,
    after: string,
  ) => Iterable<Stored<R>> | undefined;
}

function readFilter<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  request: ApiRequest,
  options: ListOptions<R>,
): Filter<R> {
  const query = request.query as ListQuery;
  const { caller } = request;
  if (query.project !== undefined) {
    const foreign = caller.role !== 'operator' && query.project !== caller.project;
    if (foreign || !api.mirror.get(records.projects, query.project)) throw notFound('project', query.project);
  }
  const selector = query.selector === undefined ? undefined : parseSelector(query.selector);
  if (typeof selector === 'string') throw fieldError('invalid_input', '#query/selector', selector);
  const ids = query.ids?.split(',').map((id) => id.trim());
  const idPattern = new RegExp(`^${idPrefixes[served.noun]}-[0-9a-z]{16}$`);
  if (ids && (ids.length > mostIds || !ids.every((id) => idPattern.test(id)))) {
    const rule = `must be 1 to ${mostIds} ids such as ${idPrefixes[served.noun]}-0123456789abcdef, separated by commas`;
    throw fieldError('invalid_input', '#query/ids', rule);
  }
  return {
    ...(query.project === undefined ? {} : { project: query.project }),
    ...(query.name === undefined ? {} : { name: query.name }),
    ...(ids === undefined ? {} : { ids: new Set(ids) }),
    ...(selector === undefined ? {} : { selector }),
    extra: options.extra?.(request.query) ?? (() => true),
  };
}

/** Waits, if the query asks to, until a change that counts for this list is newer than `after`. */
async function waitForNews<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  request: ApiRequest,
  filter: Filter<R>,
  accepts: (record: R) => boolean,
): Promise<void> {
  const query: WaitQuery = request.query;
  if (query.after === undefined) return;
  const kinds = shownKinds(served.kind);
  const ids = filter.ids && [...filter.ids];
  const of: ChangeWaitOptions['of'] = [
    ...(ids ? ids.flatMap((id) => kinds.map((kind) => ({ kind, id }))) : kinds.map((kind) => ({ kind }))),
    ...(observations.has(served.kind.prefix) ? [{ kind: records.alive }] : []),
  ];
  const counts = (change: RecordChange): boolean => {
    if (change.kind.prefix === records.alive.prefix) return isSignOfLife(change);
    if (change.kind.prefix === served.kind.prefix) {
      // It counts too that an object has ceased to belong to the list.
      return [change.stored, change.previous].some((one) => one !== undefined && accepts(one.value as R));
    }
    const stored = api.mirror.get(served.kind, change.id);
    return stored !== undefined && accepts(stored.value);
  };
  const timeoutMs = Math.max(0, deadline(query) - performance.now());
  await api.mirror.waitForChange({ after: query.after, of, predicate: counts, timeoutMs, signal: request.gone });
  // One change wakes all who wait for it. A server that closes answers all at once.
  if (!request.gone.aborted) await api.turns.take(accountOf(request.caller));
}

function* merge<R>(sources: readonly Iterable<Stored<R>>[]): Generator<Stored<R>, void> {
  const heads = sources.map((source) => source[Symbol.iterator]());
  const next = heads.map((head) => head.next());
  for (;;) {
    let first = -1;
    next.forEach((one, i) => {
      const best = next[first];
      if (!one.done && (best === undefined || best.done || one.value.id < best.value.id)) first = i;
    });
    const chosen = next[first];
    if (chosen === undefined || chosen.done) return;
    const { value } = chosen;
    yield value;
    heads.forEach((head, i) => {
      const one = next[i];
      if (one && !one.done && one.value.id === value.id) next[i] = head.next();
    });
  }
}

/** The records that the filter can be true for, in the order of their ids, or backwards. */
function candidates<R extends DeclaredRecord>(
  api: ApiContext,
  served: ResourceDescriptor<R>,
  request: ApiRequest,
  filter: Filter<R>,
  after: string,
): Iterable<Stored<R>> {
  const { mirror } = api;
  if (filter.ids) {
    return [...filter.ids]
      .filter((id) => id > after)
      .sort()
      .flatMap((id) => mirror.get(served.kind, id) ?? []);
  }
  const backwards = (request.query as ListQuery).order === 'newest';
  const project = filter.project ?? (request.caller.role === 'operator' ? undefined : request.caller.project);
  if (served.scope !== 'project' || project === undefined) {
    return backwards ? mirror.listBackwards(served.kind, after) : mirror.list(served.kind, '', after);
  }
  const index = mirror.byProject(served.kind);
  // The index was made from records of this kind.
  const own = (backwards ? index.listBackwards(project, after) : index.list(project, after)) as Iterable<Stored<R>>;
  if (!served.isPublic || filter.project !== undefined) return own;
  return merge([own, mirror.publicImages.list('public', after) as unknown as Iterable<Stored<R>>]);
}

export const listHandler =
  <R extends DeclaredRecord>(served: ResourceDescriptor<R>, options: ListOptions<R> = {}): Handler =>
  async (api, request): Promise<ApiAnswer> => {
    const query = request.query as ListQuery;
    const filter = readFilter(api, served, request, options);
    const after = query.page_token === undefined ? '' : decodePageToken(query.page_token);
    const labelsOf = (record: R) => served.labels?.(api, record) ?? record.labels ?? {};
    const accepts = (record: R): boolean =>
      isVisible(served, request.caller, record) &&
      (filter.project === undefined || projectOf(record) === filter.project) &&
      (filter.name === undefined || record.name === filter.name) &&
      (filter.ids === undefined || filter.ids.has(record.id)) &&
      (filter.selector === undefined || matches(filter.selector, labelsOf(record))) &&
      (filter.extra === undefined || filter.extra(record));

    await waitForNews(api, served, request, filter, accepts);

    const { limit = 100 } = query;
    const { revision } = api.mirror;
    const audience = { role: request.caller.role, listed: true };
    const items: object[] = [];
    let last = '';
    let more = false;
    const source = options.source?.(api, request.query, after) ?? candidates(api, served, request, filter, after);
    for (const stored of source) {
      if (!accepts(stored.value)) continue;
      if (items.length === limit) {
        more = true;
        break;
      }
      items.push(options.plain ? served.show(api, stored.value) : presentObject(api, served, stored, audience));
      last = stored.id;
    }
    return {
      status: 200,
      body: { items, ...(more ? { next_page_token: encodePageToken(last) } : {}), revision },
      revision,
    };
  };
