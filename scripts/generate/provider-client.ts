/** Generates provider/schema/api.gen.ts, the types of the API, from openapi.yaml. */
import { readFile } from 'node:fs/promises';
import openapiTypescript, { astToString } from 'openapi-typescript';
import { generatedBy, type Step } from './step.ts';

/** The step that generates the client's types. */
export const providerClient: Step = {
  name: 'provider client',
  async generate() {
    const types = astToString(await openapiTypescript(await readFile('openapi.yaml', 'utf8'), { alphabetize: true }));
    return [{ path: 'provider/schema/api.gen.ts', content: `// ${generatedBy}\n${types}`, checkedIn: false }];
  },
};
