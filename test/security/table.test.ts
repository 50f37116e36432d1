import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';

const root = new URL('../../', import.meta.url);
const page = readFileSync(new URL('docs/security.md', root), 'utf8');

/** Rows of the tables of attacks: the last column is `file: title`. */
const [, attacks = ''] = page.split(/\n## Attacks\n/);
const rows = (attacks.split('\n## ')[0] ?? '')
  .split('\n')
  .filter((line) => line.startsWith('|') && !/^\|\s*(attack|---)/.test(line))
  .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()));

t.test('each attack in the table of docs/security.md has its test', async (t) => {
  t.ok(rows.length > 50, `${rows.length} rows`);
  const texts = new Map<string, string>();
  for (const row of rows) {
    const [, attack = '', , test = ''] = row;
    const [, file = '', title = ''] = /^`?(test\/[\w./-]+\.test\.ts): (.+?)`?$/.exec(test) ?? [];
    if (!texts.has(file)) {
      const path = new URL(file, root);
      texts.set(file, file !== '' && existsSync(path) ? readFileSync(path, 'utf8') : '');
    }
    const escaped = title.replaceAll("'", "\\'");
    const text = texts.get(file) ?? '';
    t.ok(title !== '' && (text.includes(title) || text.includes(escaped)), `${attack}: ${test}`);
  }
});
