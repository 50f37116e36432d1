/** Get and list for all resources: visibility, filters, pages, long polls. */
import { type Id, idPrefixes } from '../../contract/fields.ts';
import * as records from '../../model/records/index.ts';
import { matches, parseSelector, type Selector } from '../../model/text/selectors.ts';
import type { ChangeWaitOptions, RecordChange } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import { isSignOfLife } from '../read-model/object-revisions.ts';
import { type ApiAnswer, type ApiContext, type ApiRequest, accountOf, type Handler } from './context.ts';
import { type DeclaredRecord, projectOf, type ResourceDescriptor } from './descriptor.ts';
import { find, isVisible, presentObject, projectInQuery, versionOf } from './objects.ts';
import { decodePageToken, encodePageToken } from './page-token.ts';
import { fieldError } from './validation.ts';

const maxIds = 100;

interface WaitQuery {
  readonly after?: number;
  readonly timeout?: number;
}

/** Returns the kinds of records that the objects of the resource show. */
const shownKinds = ({ kind, observedBy = [] }: ResourceDescriptor): readonly RecordKind[] => [kind, ...observedBy];

const deadline = ({ timeout = 30 }: WaitQuery): number => performance.now() + timeout * 1000;

/** Returns the handler of get. */
export const getHandler =
  <R extends DeclaredRecord>(descriptor: ResourceDescriptor<R>): Handler =>
  async (api, request) => {
    const { id = '' } = request.params;
    const query: WaitQuery = request.query;
    const until = deadline(query);
    for (;;) {
      const stored = find(api, descriptor, request.caller, id);
      const item = presentObject(api, descriptor, stored, request.caller);
      const left = until - performance.now();
      if (query.after === undefined || item.revision > query.after || left <= 0 || request.gone.aborted) {
        return { status: 200, body: item, revision: api.mirror.revision, version: versionOf(api, descriptor, stored) };
      }
      const host = descriptor.hostOf?.(api, id);
      await api.mirror.waitForChange({
        // The object above shows all changes up to this revision.
        after: api.mirror.revision,
        of: [
          ...shownKinds(descriptor).map((kind) => ({ kind, id })),
          ...(host === undefined ? [] : [{ kind: records.alive, id: host }]),
          ...(descriptor.watches?.(api, id) ?? []),
        ],
        predicate: isNews,
        timeoutMs: left,
        signal: request.gone,
      });
      if (!request.gone.aborted) await api.turns.take(accountOf(request.caller));
    }
  };

const isNews = (change: RecordChange): boolean => change.kind.prefix !== records.alive.prefix || isSignOfLife(change);

interface Filter {
  readonly project?: string;
  readonly name?: string;
  readonly ids?: ReadonlySet<string>;
  readonly selector?: Selector;
  /** The field of `selectedBy`, and its value. */
  readonly selected?: { readonly field: string; readonly value: string };
  /** The values that fields must have. */
  readonly fields: readonly (readonly [field: string, value: unknown])[];
}

interface ListQuery extends WaitQuery {
  readonly limit?: number;
  readonly page_token?: string;
  readonly selector?: string;
  readonly name?: string;
  readonly ids?: string;
  readonly project?: Id<'project'>;
  /** The order of the ids, which is the order of time. */
  readonly order?: 'oldest' | 'newest';
}

/** Tells whether a project shares objects with another one. That project then knows the id of the owner anyway. */
function sharesWith<R extends DeclaredRecord>(
  { mirror }: ApiContext,
  { kind, sharedWith }: ResourceDescriptor<R>,
  owner: string | undefined,
  project: string | undefined,
): boolean {
  if (sharedWith === undefined || owner === undefined || project === undefined) return false;
  for (const { value } of mirror.listShared(kind, project)) if (projectOf(value) === owner) return true;
  return false;
}

function readFilter<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  request: ApiRequest,
): Filter {
  const query = request.query as ListQuery;
  const { caller } = request;
  if (!sharesWith(api, descriptor, query.project, caller.project)) projectInQuery(api, caller, query.project);
  const selector = query.selector === undefined ? undefined : parseSelector(query.selector);
  if (typeof selector === 'string') throw fieldError('invalid_input', '#query/selector', selector);
  const ids = query.ids?.split(',').map((id) => id.trim());
  const idPattern = new RegExp(`^${idPrefixes[descriptor.noun]}-[0-9a-z]{16}$`);
  if (ids && (ids.length > maxIds || !ids.every((id) => idPattern.test(id)))) {
    const rule = `must be 1 to ${maxIds} ids such as ${idPrefixes[descriptor.noun]}-0123456789abcdef, separated by commas`;
    throw fieldError('invalid_input', '#query/ids', rule);
  }
  const field = descriptor.list?.selectedBy;
  const value = field === undefined ? undefined : request.query[field];
  return {
    ...(query.project === undefined ? {} : { project: query.project }),
    ...(query.name === undefined ? {} : { name: query.name }),
    ...(ids === undefined ? {} : { ids: new Set(ids) }),
    ...(selector === undefined ? {} : { selector }),
    ...(field === undefined || typeof value !== 'string' ? {} : { selected: { field, value } }),
    fields: (descriptor.list?.filters ?? []).flatMap((name) => {
      const wanted = request.query[name];
      return wanted === undefined ? [] : [[name, wanted] as const];
    }),
  };
}

/** Waits, if the query has `after`, until this list changes after that revision. */
async function waitForNews<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  request: ApiRequest,
  filter: Filter,
  accepts: (record: R) => boolean,
): Promise<void> {
  const query: WaitQuery = request.query;
  if (query.after === undefined) return;
  const kinds = shownKinds(descriptor);
  const ids = filter.ids && [...filter.ids];
  const of: ChangeWaitOptions['of'] = [
    ...(ids ? ids.flatMap((id) => kinds.map((kind) => ({ kind, id }))) : kinds.map((kind) => ({ kind }))),
    ...(descriptor.hostOf ? [{ kind: records.alive }] : []),
  ];
  const counts = (change: RecordChange): boolean => {
    if (change.kind.prefix === records.alive.prefix) return isSignOfLife(change);
    if (change.kind.prefix === descriptor.kind.prefix) {
      // An object that leaves the list changes it too.
      return [change.stored, change.previous].some((one) => one !== undefined && accepts(one.value as R));
    }
    const stored = api.mirror.get(descriptor.kind, change.id);
    return stored !== undefined && accepts(stored.value);
  };
  const timeoutMs = Math.max(0, deadline(query) - performance.now());
  await api.mirror.waitForChange({ after: query.after, of, predicate: counts, timeoutMs, signal: request.gone });
  // One change wakes all waiting requests, so they take turns. A closing server answers them all at once.
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

/** Returns the records that the filter can accept, in the order of their ids or in reverse. */
function candidates<R extends DeclaredRecord>(
  api: ApiContext,
  descriptor: ResourceDescriptor<R>,
  request: ApiRequest,
  filter: Filter,
  after: string,
): Iterable<Stored<R>> {
  const { mirror } = api;
  if (filter.ids) {
    return [...filter.ids]
      .filter((id) => id > after)
      .sort()
      .flatMap((id) => mirror.get(descriptor.kind, id) ?? []);
  }
  const backwards = (request.query as ListQuery).order === 'newest';
  if (filter.selected) {
    const { field, value } = filter.selected;
    const index = mirror.by(descriptor.kind, field);
    return backwards ? index.listBackwards(value, after) : index.list(value, after);
  }
  const project = filter.project ?? (request.caller.role === 'operator' ? undefined : request.caller.project);
  if (descriptor.scope !== 'project' || project === undefined) {
    return backwards ? mirror.listBackwards(descriptor.kind, after) : mirror.list(descriptor.kind, '', after);
  }
  const index = mirror.by(descriptor.kind, 'project');
  const own = backwards ? index.listBackwards(project, after) : index.list(project, after);
  if (filter.project !== undefined) return own;
  const others = [
    ...(descriptor.isPublic ? [mirror.listPublic(descriptor.kind, after)] : []),
    ...(descriptor.sharedWith ? [mirror.listShared(descriptor.kind, project, after)] : []),
  ];
  return others.length === 0 ? own : merge([own, ...others]);
}

/** Returns the handler of list. */
export const listHandler =
  <R extends DeclaredRecord>(descriptor: ResourceDescriptor<R>): Handler =>
  async (api, request): Promise<ApiAnswer> => {
    const query = request.query as ListQuery;
    const filter = readFilter(api, descriptor, request);
    const after = query.page_token === undefined ? '' : decodePageToken(query.page_token);
    const { selected } = filter;
    const labelsOf = (record: R) => descriptor.labels?.(api, record) ?? record.labels ?? {};
    const valueIn = (record: R, field: string) => (record as Readonly<Record<string, unknown>>)[field];
    const accepts = (record: R): boolean =>
      isVisible(descriptor, request.caller, record) &&
      (filter.project === undefined || projectOf(record) === filter.project) &&
      (filter.name === undefined || record.name === filter.name) &&
      (filter.ids === undefined || filter.ids.has(record.id)) &&
      (filter.selector === undefined || matches(filter.selector, labelsOf(record))) &&
      (selected === undefined || valueIn(record, selected.field) === selected.value) &&
      filter.fields.every(([field, value]) => valueIn(record, field) === value);

    await waitForNews(api, descriptor, request, filter, accepts);

    const { limit = 100 } = query;
    const { revision } = api.mirror;
    const { role, project } = request.caller;
    const audience = { role, listed: true, ...(project === undefined ? {} : { project }) };
    const items: object[] = [];
    let last = '';
    let more = false;
    for (const stored of candidates(api, descriptor, request, filter, after)) {
      if (!accepts(stored.value)) continue;
      if (items.length === limit) {
        more = true;
        break;
      }
      items.push(
        descriptor.list?.plain ? descriptor.show(api, stored.value) : presentObject(api, descriptor, stored, audience),
      );
      last = stored.id;
    }
    return {
      status: 200,
      body: { items, ...(more ? { next_page_token: encodePageToken(last) } : {}), revision },
      revision,
    };
  };
