/** Answers of the API for people: lists as tables, objects as lines, everything else as JSON. */
const cell = (value: unknown): string =>
  value === undefined || value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value);

const columns = [
  'id',
  'name',
  'cidr',
  'address',
  'phase',
  'state',
  'alive',
  'role',
  'at',
  'target',
  'reason',
  'operation',
  'message',
];

function table(items: readonly Record<string, unknown>[]): string {
  const rows = items.map(
    (item): Record<string, unknown> => ({ ...item, phase: (item.status as { phase?: string })?.phase }),
  );
  const shown = columns.filter((column) => rows.some((row) => row[column] !== undefined));
  const widths = shown.map((column) => Math.max(column.length, ...rows.map((row) => cell(row[column]).length)));
  const line = (cells: string[]) =>
    cells
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [
    line(shown.map((column) => column.toUpperCase())),
    ...rows.map((row) => line(shown.map((column) => cell(row[column])))),
  ].join('\n');
}

export function print(answer: unknown, json: boolean): void {
  if (answer === undefined) return;
  if (json || typeof answer !== 'object' || answer === null) {
    console.log(JSON.stringify(answer, undefined, 2));
    return;
  }
  const { items, next_page_token } = answer as { items?: Record<string, unknown>[]; next_page_token?: string };
  if (!items) {
    const width = Math.max(...Object.keys(answer).map((key) => key.length));
    for (const [key, value] of Object.entries(answer)) console.log(`${key.padEnd(width)}  ${cell(value)}`);
    return;
  }
  console.log(items.length === 0 ? '(none)' : table(items));
  if (next_page_token) console.log(`There is more: --page-token ${next_page_token}`);
}
