/** Generates docs/reference/errors.md from the error table. */
import { errorTable } from '../../backend/contract/errors.ts';
import { generatedBy, type Step } from './step.ts';

const section = ([code, error]: [string, (typeof errorTable)[keyof typeof errorTable]]): string => `\
## ${code}

**${error.status}** · ${error.title}${error.retry ? ' · may be retried' : ''}

${error.meaning}

- You: ${error.user}
- The operator: ${error.operator}
`;

/** The step that generates the error reference. */
export const errorReference: Step = {
  name: 'error reference',
  async generate() {
    const text = `\
<!-- ${generatedBy} -->

# Errors

Errors are problem details (RFC 9457, \`application/problem+json\`). \`code\` is stable: programs should use it
instead of the text. \`errors\` names each invalid field with a JSON pointer. \`request_id\` identifies the request in the log.

\`\`\`json
{
  "type": "urn:ucloud:error:invalid_input",
  "title": "${errorTable.invalid_input.title}",
  "status": 400,
  "detail": "/memory: must be an amount such as 512MiB or 20GiB",
  "code": "invalid_input",
  "errors": [{ "pointer": "/memory", "detail": "must be an amount such as 512MiB or 20GiB" }],
  "request_id": "req-1"
}
\`\`\`

If an error says "may be retried", the client may send the same request again, preferably with the same
\`Idempotency-Key\`. After any other error, the request must change first.

${Object.entries(errorTable).map(section).join('\n')}`;
    return [{ path: 'docs/reference/errors.md', content: text, checkedIn: true }];
  },
};
