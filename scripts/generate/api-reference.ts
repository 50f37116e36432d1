/** Generates docs/reference/api.md from the contract: one table with all operations. */
import { aboutOf, type Endpoint } from '../../backend/contract/endpoint.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { generatedBy, type Step } from './step.ts';

const cells = (endpoint: Endpoint): string[] => [
  `\`${endpoint.method} ${endpoint.path}\``,
  `\`${endpoint.id}\``,
  endpoint.summary,
  endpoint.access,
];

/** Formats a table like the formatter of the repository: columns are padded to their widest cell. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(3, title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  return [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rows.map(line)].join('\n');
}

/** The step that generates the API reference. */
export const apiReference: Step = {
  name: 'API reference',
  async generate() {
    const tags = [...new Set(endpoints.map((endpoint) => endpoint.tag))];
    const sections = tags.map((tag) => {
      const own = endpoints.filter((endpoint) => endpoint.tag === tag);
      const about = own.slice(0, 1).map(aboutOf).join();
      return `## ${tag}\n\n${about}\n\n${table(['request', 'operation', '', 'role'], own.map(cells))}\n`;
    });
    const text = `\
<!-- ${generatedBy} -->

# The API in one table

\`openapi.yaml\` at the root of the repository contains the full description: fields, rules, examples and errors of each
operation. Every server also serves it at \`/openapi.yaml\`. [errors.md](errors.md) explains each error.

${sections.join('\n')}`;
    return [{ path: 'docs/reference/api.md', content: text, checkedIn: true }];
  },
};
