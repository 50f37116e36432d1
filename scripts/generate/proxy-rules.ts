/** provider/client/proxy.gen.ts: the rules of the command line on proxies, for the provider, which imports nothing of it. */
import { readFile } from 'node:fs/promises';
import { generatedBy, type Step } from './step.ts';

const source = 'backend/cli/proxy.ts';

export const proxyRules: Step = {
  name: 'proxy rules',
  async generate() {
    const content = `// ${generatedBy} From ${source}.\n${await readFile(source, 'utf8')}`;
    return [{ path: 'provider/client/proxy.gen.ts', content, checkedIn: false }];
  },
};
