/**
 * The rules that the provider shares with the command line: proxies and credentials. The provider imports nothing from the
 * backend, so it gets copies of these files.
 */
import { readFile } from 'node:fs/promises';
import { generatedBy, type Step } from './step.ts';

/** The sources, with the paths of their copies. */
export const commandRuleFiles: readonly (readonly [source: string, copy: string])[] = [
  ['backend/cli/proxy.ts', 'provider/client/proxy.gen.ts'],
  ['backend/cli/credential-rules.ts', 'provider/client/credential-rules.gen.ts'],
];

export const commandRules: Step = {
  name: 'rules of the command',
  async generate() {
    const copy = async ([source, path]: (typeof commandRuleFiles)[number]) => {
      const content = `// ${generatedBy} From ${source}.\n${await readFile(source, 'utf8')}`;
      return { path, content, checkedIn: false };
    };
    return Promise.all(commandRuleFiles.map(copy));
  },
};
