/** provider/docs/guides/troubleshooting.md: what Terraform says, why, and what to do; from the tables that it is said from. */
import { type ErrorCode, errorTable } from '../../backend/contract/errors.ts';
import { kinds } from '../../provider/client/connection-error.ts';
import { errors } from '../../provider/client/errors.gen.ts';
import { actionFor } from '../../provider/client/problem.ts';
import type { GeneratedFile } from './step.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|');
const row = (...cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
/** As it stands after a colon. */
const clause = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** What the requests of a provider cannot meet. */
const ofOtherClients: readonly string[] = [
  ...['idempotency_key_reused', 'precondition_failed', 'payload_too_large', 'unsupported_media_type'],
  // Terraform's own backend meets these, and has words of its own for them.
  ...['stale_state', 'state_locked'],
];

function remedy(code: string): string {
  if (errors[code]?.retryable) return 'Apply again. The provider has tried it again several times already.';
  const action = actionFor(code) ?? 'The message names what is needed.';
  return action.includes('`errors`') ? 'Correct the attribute that the message points to; it names the rule.' : action;
}

const refusals = (): string[] =>
  Object.keys(errors)
    .filter((code) => !ofOtherClients.includes(code))
    .map((code) => {
      const { title, meaning } = errorTable[code as ErrorCode];
      return row(`…: ${clause(title)}`, meaning, remedy(code));
    });

const unreachable = (): string[] =>
  kinds.map(({ problem, action, permanent }) =>
    row(`… ${problem}`, action, permanent ? 'at once' : 'after `max_retries`'),
  );

export function troubleshooting(path: string, frontMatter: string): GeneratedFile {
  const content = `${frontMatter}
# When Terraform reports an error

The first line of an error says what was not done, and after the colon why. An error at an attribute points to its line;
what else can be done stands below. What has been made by then is in the state: mend the cause, and apply again.

## The API refuses

| after the colon | why | what to do |
| --- | --- | --- |
${refusals().join('\n')}

## \`…: the API cannot be reached\`

| the reason given | what to do | reported |
| --- | --- | --- |
${unreachable().join('\n')}

## It was made, but is not ready

| Terraform says | why | what to do |
| --- | --- | --- |
| \`VM "…" is not running within …\` | It waits, for a host for one; the lines below say for what. It exists, and is marked as tainted: the next apply replaces it. | Give it more time by \`timeouts\`, or make it smaller. If it has come up by itself meanwhile, \`terraform untaint\` keeps it. |
| Warning: \`No host can run this VM\` | There is no room for all that is planned. | See [before apply](../resources/vm.md#before-apply). |
| \`Saved plan is stale\` | Somebody has applied since it was made. | Plan again. |
| \`Error acquiring the state lock\` | Somebody else plans or applies, or was killed while they did. | Wait (\`-lock-timeout=10m\`), or see [when two apply at once](../../../docs/terraform-state.md#when-two-apply-at-once). |

What \`terraform init\` says of the provider is explained [where it is given out](../../../docs/provider-registry.md#when-it-does-not-work).
If none of this helps, \`TF_LOG_PROVIDER=debug\` makes Terraform show what the provider logs, and the operator finds a request
by its id in the log of the API.
`;
  return { path, content, checkedIn: true };
}
