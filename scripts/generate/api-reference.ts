/** docs/reference/api.md: every operation in a table, from the contract. */
import type { Endpoint } from '../../backend/contract/endpoint.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { generatedBy, type Step } from './step.ts';

const row = (endpoint: Endpoint): string =>
  `| \`${endpoint.method} ${endpoint.path}\` | \`${endpoint.id}\` | ${endpoint.summary} | ${endpoint.access} |`;

export const apiReference: Step = {
  name: 'API reference',
  async generate() {
    const tags = [...new Set(endpoints.map((endpoint) => endpoint.tag))];
    const sections = tags.map((tag) => {
      const own = endpoints.filter((endpoint) => endpoint.tag === tag);
      const about = own.find((endpoint) => endpoint.resource)?.resource?.description;
      return `## ${tag}\n\n${about ? `${about}\n\n` : ''}| request | operation | | role |\n|---|---|---|---|\n${own.map(row).join('\n')}\n`;
    });
    const text = `\
<!-- ${generatedBy} -->

# The API in one table

\`openapi.yaml\` at the root of the repository, which every server also serves at \`/openapi.yaml\`, is the full
description: fields, rules, examples and errors of each operation. [errors.md](errors.md) explains each error.

${sections.join('\n')}`;
    return [{ path: 'docs/reference/api.md', content: text, checkedIn: true }];
  },
};
