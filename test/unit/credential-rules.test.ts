/** The command and the Terraform provider find endpoint, token, project and CA file by the same rules. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { completeSettings, parseCredentials, type Settings, variableOf } from '../../backend/cli/credential-rules.ts';
import { readCredentials } from '../../backend/cli/credentials.ts';
import { resolve } from '../../provider/client/configuration.ts';
import { temporaryDirectory } from '../support/stores.ts';

const here = 'https://cloud.example';
const there = 'https://other.example';
const file: Settings = { endpoint: here, token: 'file-token', project: 'prj-file', ca_file: '/file.pem' };

t.test('token, project and CA of the file go to the endpoint of the file only', async (t) => {
  for (const [own, expected] of [
    [{}, file],
    [{ endpoint: `${here}/` }, { ...file, endpoint: `${here}/` }],
    [{ endpoint: there }, { endpoint: there }],
    [
      { endpoint: there, token: 'own' },
      { endpoint: there, token: 'own' },
    ],
    [{ token: 'own' }, { endpoint: here, token: 'own', ca_file: '/file.pem' }],
    [{ project: 'prj-own' }, { ...file, project: 'prj-own' }],
  ] as const satisfies readonly (readonly [Settings, Settings])[]) {
    t.match(completeSettings(own, file), expected);
    const { token, project, ca_file }: Settings = expected;
    t.has(completeSettings(own, file), { token, project, ca_file }, 'and nothing else');
  }
  const nameless: Settings = { token: 'file-token' };
  t.equal(completeSettings({ endpoint: there }, nameless).token, undefined, 'a token without an endpoint goes nowhere');
});

t.test('a credentials file that cannot be used is refused without its text', async (t) => {
  for (const [text, reason] of [
    ['{"token": "secret"', 'it is not JSON'],
    ['null', 'it holds no JSON object'],
    ['{"token": 7}', '`token` is not text'],
  ] as const) {
    t.throws(() => parseCredentials(text), { message: reason });
  }
  t.match(parseCredentials('{"token": " x\\n", "other": 1}'), { token: 'x' });
});

t.test('command and provider find the same settings', async (t) => {
  const path = join(temporaryDirectory(t), 'credentials.json');
  const environment = { ...process.env };
  t.teardown(() => {
    process.env = environment;
  });
  const text = (...values: string[]) => fc.option(fc.constantFrom(...values, ' '), { nil: undefined });
  const settings = fc.record({ endpoint: text(here, there), token: text('a', 'b'), project: text('p', 'q') });
  fc.assert(
    fc.property(settings, settings, (own, stored) => {
      writeFileSync(path, JSON.stringify(stored));
      const given = Object.entries(own).filter(([, value]) => value !== undefined);
      process.env = {
        UCLOUD_CREDENTIALS: path,
        ...Object.fromEntries(given.map(([name, value]) => [variableOf(name as keyof Settings), value])),
      };
      const found = readCredentials();
      let configured: Settings | undefined;
      try {
        configured = resolve({}, process.env);
      } catch {
        // Without an endpoint or a token, only the command can go on.
        return;
      }
      const { endpoint, token, project } = found;
      // The provider does not read the file if it needs nothing of it.
      const unread = own.endpoint?.trim() && own.token?.trim() && !own.project?.trim();
      t.match(
        { endpoint, token, ...(!unread && { project }) },
        {
          endpoint: configured.endpoint,
          token: configured.token,
          ...(!unread && { project: configured.project }),
        },
      );
    }),
  );
});
