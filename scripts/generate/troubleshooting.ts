/**
 * Generates provider/docs/guides/troubleshooting.md from the tables of error messages: the message of Terraform, its
 * cause, and the remedy.
 */
import { type ErrorCode, errorTable } from '../../backend/contract/errors.ts';
import { kinds } from '../../provider/client/connection-error.ts';
import { actionFor } from '../../provider/client/problem.ts';
import { errors } from '../../provider/schema/errors.gen.ts';
import type { GeneratedFile } from './step.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|');
const row = (...cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
/** Returns the text as a clause after a colon. */
const clause = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** Errors that the provider's requests cannot get. */
const errorsOfOtherClients: readonly string[] = [
  ...['idempotency_key_reused', 'precondition_failed', 'payload_too_large', 'unsupported_media_type'],
  // Terraform's own HTTP backend gets these, and prints its own messages for them.
  ...['stale_state', 'state_locked'],
];

function remedy(code: string): string {
  if (errors[code]?.retryable) return 'Apply again. The provider has already retried several times.';
  const action = actionFor(code) ?? 'The message names the remedy.';
  return action.includes('`errors`') ? 'Correct the attribute that the message points to; it names the rule.' : action;
}

const refusals = (): string[] =>
  Object.keys(errors)
    .filter((code) => !errorsOfOtherClients.includes(code))
    .map((code) => {
      const { title, meaning } = errorTable[code as ErrorCode];
      return row(`…: ${clause(title)}`, meaning, remedy(code));
    });

const unreachable = (): string[] =>
  kinds.map(({ problem, action, permanent }) =>
    row(`… ${problem}`, action, permanent ? 'at once' : 'after `max_retries`'),
  );

/** Returns the page. */
export function troubleshooting(path: string, frontMatter: string): GeneratedFile {
  const content = `${frontMatter}
# When Terraform reports an error

The first line of an error names the failed action and, after the colon, the cause. An error of an attribute points to its
line; the tables below list other remedies. The state contains all objects that Terraform has created so far: remove the
cause, and apply again.

## The API refuses

| after the colon | cause | remedy |
| --- | --- | --- |
${refusals().join('\n')}

## \`…: the API cannot be reached\`

| reason | remedy | reported |
| --- | --- | --- |
${unreachable().join('\n')}

## The object exists, but is not ready

| message of Terraform | cause | remedy |
| --- | --- | --- |
| \`VM "…" is not running within …\` | The VM waits, for example for a host; the lines below the message name the reason. The VM exists and is tainted: the next apply replaces it. | Set a longer time in \`timeouts\`, or make the VM smaller. If the VM now runs, \`terraform untaint\` keeps it. |
| Warning: \`No host can run this VM\` | The hosts have no room for all planned VMs. | See [before apply](../resources/vm.md#before-apply). |
| \`Saved plan is stale\` | Another apply has changed the state since the plan. | Plan again. |
| \`Error acquiring the state lock\` | Another Terraform process plans or applies, or was killed in the middle. | Wait (\`-lock-timeout=10m\`), or see [when two apply at once](../../../docs/terraform-state.md#when-two-apply-at-once). |

[Provider registry](../../../docs/provider-registry.md#when-it-does-not-work) explains the errors of \`terraform init\`.
If none of this helps, set \`TF_LOG_PROVIDER=debug\`: Terraform then prints the log of the provider. The operator finds a
request by its id in the log of the API.
`;
  return { path, content, checkedIn: true };
}
