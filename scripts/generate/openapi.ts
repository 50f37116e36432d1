/** Generates openapi.yaml from backend/contract. */
import { readFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { endpoints } from '../../backend/contract/index.ts';
import { openApiDocument } from '../../backend/contract/openapi.ts';
import { generatedBy, type Step } from './step.ts';

/** The step that generates openapi.yaml. */
export const openapi: Step = {
  name: 'openapi',
  async generate() {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    const document = openApiDocument(endpoints, version);
    const text = stringify(document, {
      lineWidth: 120,
      aliasDuplicateObjects: false,
      blockQuote: 'literal',
      // Quotes texts that a YAML 1.1 parser would read as dates.
      compat: 'yaml-1.1',
    });
    return [{ path: 'openapi.yaml', content: `# ${generatedBy}\n${text}`, checkedIn: true }];
  },
};
