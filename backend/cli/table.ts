/** Tables of lists: one line for each item. */
import { inUnits } from './amounts.ts';
import type { Names } from './names.ts';
import { visible } from './terminal.ts';

/** An item of a list. */
export type Item = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Item =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function cell(value: unknown, names: Names): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value) && !value.some((item) => typeof item === 'object')) {
    return value.map((item) => cell(item, names)).join(',');
  }
  // A flat object, such as labels.
  if (isObject(value) && Object.values(value).every((part) => typeof part !== 'object')) {
    return visible(
      Object.entries(value)
        .map(([key, part]) => `${key}=${part}`)
        .join(','),
    );
  }
  return visible(typeof value === 'object' ? JSON.stringify(value) : (names.get(String(value)) ?? String(value)));
}

/** All columns. A table shows those that have a value in some item. */
const columns: Readonly<Record<string, (item: Item) => unknown>> = {
  id: ({ id }) => id,
  name: ({ name }) => name,
  project: ({ project }) => project,
  number: ({ number }) => number,
  account: ({ billing_account }) => billing_account,
  month: ({ month }) => month,
  product: ({ product }) => product,
  title: ({ title }) => title,
  object: ({ object }) => object,
  meter: ({ meter }) => meter,
  amount: ({ amount }) => amount,
  currency: ({ currency }) => currency,
  per: ({ per, unit }) => per && `${per}, ${unit}`,
  'valid from': ({ valid_from }) => valid_from,
  'minimum seconds': ({ minimum_seconds }) => minimum_seconds || undefined,
  'monthly cap': ({ monthly_cap }) => monthly_cap,
  opened: ({ opened_at }) => opened_at,
  ended: ({ ended_at }) => ended_at,
  end: ({ end }) => end,
  'legal name': ({ legal_name }) => legal_name,
  gross: ({ gross }) => gross,
  due: ({ due_date }) => due_date,
  'received on': ({ received_on }) => received_on,
  reference: ({ reference }) => reference,
  bill: ({ bill }) => bill,
  version: ({ serial, version }) => serial && version,
  serial: ({ serial }) => serial,
  lock: ({ lock }) => (isObject(lock) ? (lock.Who ?? lock.ID) : undefined),
  cidr: ({ cidr }) => cidr,
  pool: ({ pool }) => pool,
  prefix: ({ prefix }) => prefix,
  address: ({ address }) => address,
  cpus: ({ cpus }) => cpus,
  memory: ({ memory }) => memory,
  disk: ({ disk_size, size }) => disk_size ?? size,
  phase: ({ status }) => (isObject(status) ? status.phase : undefined),
  ready: ({ status }) => (isObject(status) ? status.ready : undefined),
  host: ({ status }) => (isObject(status) ? status.host : undefined),
  state: ({ state }) => state,
  visibility: ({ visibility, shared }) => (shared ? 'shared' : visibility),
  family: ({ family }) => family,
  deprecated: ({ deprecated_at }) => deprecated_at,
  role: ({ role }) => role,
  expires: ({ expires_at }) => expires_at,
  alive: ({ alive }) => alive,
  draining: ({ draining }) => draining,
  cordoned: ({ cordoned }) => cordoned,
  hypervisor: ({ hypervisor, accelerator }) => hypervisor && `${hypervisor} (${accelerator})`,
  'cpus used': ({ allocated, capacity }) => used(allocated, capacity, 'cpus', String),
  'memory used': ({ allocated, capacity }) => used(allocated, capacity, 'memory', inUnits),
  'disk used': ({ allocated, capacity }) => used(allocated, capacity, 'disk', inUnits),
  'bgp sessions': ({ sessions, bgp_sessions }) => established(sessions ?? bgp_sessions),
  kind: ({ kind }) => kind,
  at: ({ at }) => at,
  token: ({ token }) => token,
  target: ({ target }) => target,
  operation: ({ operation }) => operation,
  reason: ({ reason }) => reason,
  message: ({ message, status, error }) =>
    message ?? (isObject(status) ? status.message : undefined) ?? (isObject(error) ? error.message : undefined),
};

function used(allocated: unknown, capacity: unknown, what: string, show: (amount: number) => string): unknown {
  if (!isObject(allocated) || !isObject(capacity)) return undefined;
  return `${show(Number(allocated[what]))} of ${show(Number(capacity[what]))}`;
}

/** Returns how many BGP sessions are established; undefined without sessions. */
function established(sessions: unknown): string | undefined {
  if (!Array.isArray(sessions) || sessions.length === 0) return undefined;
  const up = sessions.filter((session) => isObject(session) && session.state === 'established');
  return `${up.length} of ${sessions.length} established`;
}

/** Tells whether the column is useful: names replace ids, and a common project is omitted. */
function isShown(title: string, items: readonly Item[], wide: boolean): boolean {
  if (wide) return true;
  if (title === 'id') return items.some(({ name }) => name === undefined);
  return title !== 'project' || new Set(items.map(({ project }) => project)).size > 1;
}

/** A column with its values. */
export interface Column {
  readonly title: string;
  readonly values: readonly unknown[];
}

/** Returns the columns of a table. @param wide show ids also for objects with names */
export const columnsOf = (items: readonly Item[], wide: boolean): Column[] =>
  Object.entries(columns)
    .filter(([title]) => isShown(title, items, wide))
    .map(([title, pick]) => ({ title, values: items.map(pick) }))
    .filter(({ values }) => values.some((value) => value !== undefined && value !== null && value !== ''));

/** Returns the text of a table. @param names the names that replace ids */
export function table(shown: readonly Column[], names: Names): string {
  const texts = shown.map(({ title, values }) => [
    title.toUpperCase(),
    ...values.map((value) => cell(value, title === 'id' ? new Map() : names)),
  ]);
  const widths = texts.map((column) => column.reduce((most, text) => Math.max(most, text.length), 0));
  return (texts[0] ?? [])
    .map((_text, row) => texts.map((column, i) => (column[row] ?? '').padEnd(widths[i] ?? 0)).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}
