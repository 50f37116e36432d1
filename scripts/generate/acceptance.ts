/** Generates docs/reference/acceptance.md from the table of the acceptance tests. */
import { schemaOf } from '../../provider/schema/resources.gen.ts';
import {
  type AcceptanceCase,
  type AcceptanceStep,
  acceptanceCases,
  acceptanceSteps,
  languageFeatures,
  notApplicable,
} from '../../test/support/acceptance.ts';
import { generatedBy, type Step } from './step.ts';

const steps = Object.entries(acceptanceSteps) as [AcceptanceStep, (typeof acceptanceSteps)[AcceptanceStep]][];
const cases = Object.entries(acceptanceCases) as [Parameters<typeof schemaOf>[0], AcceptanceCase][];
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

/** The reasons for skipped steps, each once. */
const reasons = [...new Set(cases.flatMap(([, life]) => steps.flatMap(([step]) => notApplicable(step, life) ?? [])))];
const mark = (step: AcceptanceStep, life: AcceptanceCase): string => {
  const reason = notApplicable(step, life);
  return reason === undefined ? '✓' : `–&nbsp;(${String.fromCharCode(97 + reasons.indexOf(reason))})`;
};

const fields = (noun: Parameters<typeof schemaOf>[0], inPlace: boolean): string =>
  Object.entries(schemaOf(noun).fields)
    .filter(([, { create, update }]) => create && (update === true) === inPlace)
    .map(([name]) => `\`${name}\``)
    .join(', ') || '–';

/** The step that generates the reference of the acceptance tests. */
export const acceptanceReference: Step = {
  name: 'acceptance reference',
  async generate() {
    const content = `\
<!-- ${generatedBy} -->

# Acceptance tests of the provider

The tests take every resource through these steps with the real Terraform, against a whole cloud on simulated hosts. Each
cell is a test, named after resource and step: \`ucloud_network: deleted outside is recreated\`. The tests and this page use
one table, [test/support/acceptance.ts](../../test/support/acceptance.ts). The suite fails if a resource of the API is
missing in the table, or if a cell did not run. Run it with \`npm test -- test/terraform\`.

${table(
  ['', ...steps.map(([, { short }]) => short)],
  cases.map(([noun, life]) => [`\`ucloud_${noun}\``, ...steps.map(([step]) => mark(step, life))]),
)}

${reasons.map((reason, i) => `(${String.fromCharCode(97 + i)}) ${reason}.`).join('  \n')}

${steps.map(([, { short, says }]) => `- **${short}**: ${says}.`).join('\n')}

## Fields

The test changes every field of the first column in one apply, and checks that each field changed in place. It changes
every field of the second column in one plan, and checks that the plan names exactly these fields as the reason for a
replacement.

${table(
  ['', 'change in place', 'replace'],
  cases.map(([noun]) => [`\`ucloud_${noun}\``, fields(noun, true), fields(noun, false)]),
)}

${cases.flatMap(([noun, { note }]) => (note === undefined ? [] : [`\`ucloud_${noun}\`: ${note}.`])).join('\n\n')}

## The language

${Object.values(languageFeatures)
  .map((says) => `- ${says}.`)
  .join('\n')}

These tests reattach a running provider, which is fast. Other tests run the provider as an installed plugin: the quickstart
and all examples from a mirror, the [guide](../guides/from-nothing-to-ten-vms.md), and an installation from the cloud's own
registry over TLS.
`;
    return [{ path: 'docs/reference/acceptance.md', content, checkedIn: true }];
  },
};
