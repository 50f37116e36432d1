/** Completion of the `ucloud` command, in the shells themselves. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { runUcloud, ucloudCommand } from '../support/cli.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

const missing = (program: string): string | false => {
  try {
    execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program]);
    return false;
  } catch {
    return `${program} is not installed`;
  }
};

t.test('completion', async (t) => {
  const api = await startTestApi(t);
  const directory = temporaryDirectory(t);
  // The shell finds the command by its name.
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  symlinkSync(ucloudCommand, join(bin, 'ucloud'));
  const environment = {
    UCLOUD_CREDENTIALS: join(directory, 'none.json'),
    UCLOUD_ENDPOINT: api.url,
    UCLOUD_TOKEN: api.operatorToken,
    UCLOUD_PROJECT: api.project,
    // Other tests may take the processors.
    UCLOUD_COMPLETION_TIMEOUT: '60',
    PATH: bin + delimiter + process.env.PATH,
  };
  for (const name of ['alice', 'bob'])
    await api.operator.create('ssh-keys', { name, project: api.project, public_key: testPublicKey });
  writeFileSync(join(directory, 'setup.sh'), '');
  const completed = async (...words: string[]) => {
    const { code, out, err } = await runUcloud(['__complete', '--', ...words], environment);
    t.match({ code, err }, { code: 0, err: '' }, words.join(' '));
    return out.split('\n').flatMap((line) => (line === '' ? [] : [line.split('\t')[0] ?? '']));
  };

  await t.test('commands, options, values and names', async (t) => {
    const rows: [string[], string[]][] = [
      [
        ['vm', 'st'],
        ['start', 'stop'],
      ],
      [['vm', 'create', '--user'], ['--user-data']],
      [['vm', 'update', 'x', '--power-state', 's'], ['stopped']],
      [
        ['vm', 'update', 'x', '--delete-protection', ''],
        ['true', 'false'],
      ],
      [
        ['ssh-key', 'get', ''],
        ['alice', 'bob'],
      ],
      [['ssh-key', 'delete', 'alice', 'b'], ['bob']],
      [['vm', 'create', '--ssh-keys', 'alice,b'], ['alice,bob']],
      [['vm', 'create', '--ssh-keys=b'], ['--ssh-keys=bob']],
      [['vm', 'create', '--project', ''], ['default']],
      [['vm', 'create', '--body', ''], [':files']],
      [['vm', 'create', '--user-data', `@${directory}/set`], [`@${directory}/setup.sh`]],
      [
        ['completion', ''],
        ['bash', 'zsh', 'fish'],
      ],
      [['vm', 'get', ''], []],
    ];
    const found = await Promise.all(rows.map(([words]) => completed(...words)));
    for (const [i, [words, expected]] of rows.entries()) {
      t.strictSame(found[i], expected, words.join(' '));
    }
  });

  await t.test('an API that does not answer, or refuses, completes nothing and prints nothing', async (t) => {
    for (const other of [{ UCLOUD_ENDPOINT: 'http://[::1]:9' }, { UCLOUD_TOKEN: 'wrong' }, { UCLOUD_ENDPOINT: 'x' }]) {
      const ended = await runUcloud(['__complete', '--', 'ssh-key', 'get', ''], { ...environment, ...other });
      t.strictSame(ended, { code: 0, out: '', err: '' });
    }
  });

  const shells = {
    bash: `source <(ucloud completion bash)
      COMP_WORDS=(ucloud ssh-key get b); COMP_CWORD=3; _ucloud ucloud; echo "$COMPREPLY"
      COMP_WORDS=(ucloud vm create --ssh-keys = al); COMP_CWORD=5; _ucloud ucloud; echo "$COMPREPLY"
      complete -p ucloud`,
    zsh: `compdef() { echo "$@" }; _describe() { print -l -- "\${(@P)2}" }
      source <(ucloud completion zsh)
      words=(ucloud ssh-key get b); CURRENT=4; _ucloud
      words=(ucloud vm create --ssh-keys al); CURRENT=5; _ucloud`,
    fish: `ucloud completion fish | source
      complete -C 'ucloud ssh-key get b'
      complete -C 'ucloud vm create --ssh-keys al'`,
  };
  for (const [shell, script] of Object.entries(shells)) {
    await t.test(`${shell} completes a name`, { skip: missing(shell) }, async (t) => {
      const env = { ...process.env, ...environment, HOME: directory };
      const out = await new Promise<string>((resolve, reject) => {
        const flags = shell === 'bash' ? ['--norc'] : shell === 'zsh' ? ['-f'] : ['--no-config'];
        execFile(shell, [...flags, '-c', script], { env }, (error, out, err) =>
          error || err !== '' ? reject(error ?? new Error(err)) : resolve(out),
        );
      });
      t.match(out, /^bob:?$/m);
      t.match(out, /^alice:?$/m);
      t.match(out, shell === 'bash' ? /_ucloud ucloud/ : shell === 'zsh' ? /^_ucloud ucloud$/m : /./);
    });
  }
});
