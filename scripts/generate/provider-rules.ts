/**
 * Generates the copies of three rules of the API: for public keys, label selectors, and names of files. openapi.yaml cannot describe the
 * rules, and the provider must not import the backend.
 */
import { readFile } from 'node:fs/promises';
import { generatedBy, type Step } from './step.ts';

/** The sources, with the paths of their copies. */
export const providerRuleFiles: readonly (readonly [source: string, copy: string])[] = [
  ['backend/model/text/ssh-public-key.ts', 'provider/net/ssh-public-key.gen.ts'],
  ['backend/model/text/selectors.ts', 'provider/derive/selectors.gen.ts'],
  ['backend/model/file/name-text.ts', 'provider/upload/file-name.gen.ts'],
];

export const providerRules: Step = {
  name: 'provider rules',
  generate: () =>
    Promise.all(
      providerRuleFiles.map(async ([source, path]) => ({
        path,
        content: `// ${generatedBy}\n${await readFile(source, 'utf8')}`,
        checkedIn: false,
      })),
    ),
};
