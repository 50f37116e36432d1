/** Answers of the API for people: lists as tables, objects as lines, everything else as JSON. */
type Item = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Item =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Bytes in the largest unit that leaves few digits: hosts count in bytes. */
const inUnits = (bytes: number): string => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, bytes > 0 ? Math.floor(Math.log2(bytes) / 10) : 0);
  return `${Math.round((bytes / 1024 ** power) * 10) / 10}${units[power]}`;
};

function cell(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value) && !value.some((item) => typeof item === 'object')) return value.join(',');
  // Labels and the like.
  if (isObject(value) && Object.values(value).every((part) => typeof part !== 'object')) {
    return Object.entries(value)
      .map(([key, part]) => `${key}=${part}`)
      .join(',');
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** What a table shows of an item, where it has it; most lists have a few of these. */
const columns: Readonly<Record<string, (item: Item) => unknown>> = {
  id: ({ id }) => id,
  name: ({ name }) => name,
  version: ({ serial, version }) => serial && version,
  serial: ({ serial }) => serial,
  lock: ({ lock }) => (isObject(lock) ? (lock.Who ?? lock.ID) : undefined),
  cidr: ({ cidr }) => cidr,
  address: ({ address }) => address,
  cpus: ({ cpus }) => cpus,
  memory: ({ memory }) => memory,
  disk: ({ disk_size, size }) => disk_size ?? size,
  phase: ({ status }) => (isObject(status) ? status.phase : undefined),
  ready: ({ status }) => (isObject(status) ? status.ready : undefined),
  host: ({ status }) => (isObject(status) ? status.host : undefined),
  state: ({ state }) => state,
  visibility: ({ visibility }) => visibility,
  role: ({ role }) => role,
  alive: ({ alive }) => alive,
  draining: ({ draining }) => draining,
  hypervisor: ({ hypervisor, accelerator }) => hypervisor && `${hypervisor} (${accelerator})`,
  'cpus used': ({ allocated, capacity }) => used(allocated, capacity, 'cpus', String),
  'memory used': ({ allocated, capacity }) => used(allocated, capacity, 'memory', inUnits),
  'disk used': ({ allocated, capacity }) => used(allocated, capacity, 'disk', inUnits),
  kind: ({ kind }) => kind,
  at: ({ at }) => at,
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

function table(items: readonly Item[]): string {
  const shown = Object.entries(columns)
    .map(([title, pick]) => ({ title: title.toUpperCase(), cells: items.map((item) => cell(pick(item))) }))
    .filter(({ cells }) => cells.some((text) => text !== ''))
    .map(({ title, cells }) => [title, ...cells]);
  const widths = shown.map((column) => Math.max(...column.map((text) => text.length)));
  return [-1, ...items.keys()]
    .map((row) =>
      shown
        .map((column, i) => (column[row + 1] ?? '').padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The fields of an object, those of its observed state and of its capacity each on a line of their own. */
function lines(item: Item): [string, string][] {
  return Object.entries(item).flatMap(([key, value]): [string, string][] => {
    if ((key === 'status' || key === 'capacity' || key === 'allocated') && isObject(value)) {
      return Object.entries(value).map(([part, inner]) => [
        `${key}.${part}`,
        key !== 'status' && part !== 'cpus' ? inUnits(Number(inner)) : cell(inner),
      ]);
    }
    return [[key, cell(value)]];
  });
}

export function print(answer: unknown, json: boolean): void {
  if (answer === undefined) return;
  if (json || !isObject(answer)) {
    console.log(JSON.stringify(answer, undefined, 2));
    return;
  }
  const { items, next_page_token } = answer as { items?: readonly Item[]; next_page_token?: string };
  if (!items) {
    const all = lines(answer);
    const width = Math.max(...all.map(([key]) => key.length));
    for (const [key, text] of all) console.log(`${key.padEnd(width)}  ${text}`.trimEnd());
    return;
  }
  console.log(items.length === 0 ? '(none)' : table(items));
  if (next_page_token) console.log(`There is more: --page-token ${next_page_token}`);
}
