/**
 * provider/net/ssh-public-key.gen.ts: the rule of the API, for plans. openapi.yaml can name the format, but has no words
 * for it; and the provider imports nothing of the backend. So it gets a copy.
 */
import { readFile } from 'node:fs/promises';
import { generatedBy, type Step } from './step.ts';

export const providerRules: Step = {
  name: 'provider rules',
  async generate() {
    const source = await readFile('backend/model/text/ssh-public-key.ts', 'utf8');
    return [{ path: 'provider/net/ssh-public-key.gen.ts', content: `// ${generatedBy}\n${source}`, checkedIn: false }];
  },
};
