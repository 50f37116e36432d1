/** Returns the rows as a table with aligned columns. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

/** Prints the rows as a table with aligned columns. */
export const printTable = (head: readonly string[], rows: readonly (readonly string[])[]): void =>
  console.log(formatTable(head, rows));

/** Formats a rate as a whole number. */
export const perSecond = (rate: number): string => Math.round(rate).toLocaleString('en');

/** Formats the ratio of two figures with two decimals. */
export const ratio = (a: number, b: number): string => (a / b).toFixed(2);
