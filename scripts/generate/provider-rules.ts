/**
 * Generates provider/net/ssh-public-key.gen.ts, the API's rule for public keys. openapi.yaml can name the format, but cannot
 * describe the rule, and the provider must not import the backend. So the provider gets a copy of the rule.
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
