/** Tests of the documents: their commands, the example of the README, links. */
import { execFile } from 'node:child_process';
import {
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import t, { type Test } from 'tap';
import { ucloudProgram } from '../../backend/cli/program.ts';
import { buildProvider } from '../../provider/build.ts';
import { type Cloud, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { makeCertificates, needsEtcd, startEtcd } from '../support/etcd.ts';
import { gpgMissing } from '../support/gpg.ts';
import { guideBlocks, missingLines, readerEnvironment, runGuide } from '../support/guide.ts';
import { copies, exemption, followedBy, pages, staleExemptions } from '../support/pages.ts';
import { noQemu } from '../support/qemu.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const exec = promisify(execFile);
const blocks = (page: string, language: string): string[] =>
  guideBlocks(readFileSync(page, 'utf8'))
    .filter((block) => block.language === language)
    .map(({ text }) => text);

interface Link {
  readonly from: string;
  /** File, from the root of the repository. */
  readonly file: string;
  /** Heading in it, as the address names it. */
  readonly heading: string | undefined;
}

const links = (from: string): Link[] =>
  [...readFileSync(from, 'utf8').matchAll(/\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?[^)]*\)/g)].map(
    ([, target = '', heading]) => ({ from, file: target === '' ? from : join(dirname(from), target), heading }),
  );

/** As GitHub makes them: lower case, without punctuation, hyphens for spaces. */
const headings = (file: string): string[] =>
  [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );

/** Becomes part of a page of provider/docs, from where its links lead on. */
const isPart = (page: string): boolean => page.startsWith('provider/examples/');

t.test('links lead somewhere', async (t) => {
  const all = pages.filter((page) => !isPart(page)).flatMap(links);
  const broken = all.filter(
    ({ file, heading }) =>
      !existsSync(file) || (heading !== undefined && file.endsWith('.md') && !headings(file).includes(heading)),
  );
  t.strictSame(broken, []);
  t.ok(all.some(({ heading }) => heading !== undefined));
});

t.test('every page of docs/ is found from the README', async (t) => {
  const found = new Set<string>();
  const follow = (page: string): void => {
    if (found.has(page) || !page.endsWith('.md') || !existsSync(page)) return;
    found.add(page);
    for (const { file } of links(page)) follow(file);
  };
  follow('README.md');
  const pages = globSync(['docs/**/*.md', 'provider/docs/*.md', 'provider/constructs/*.md', 'provider/framework/*.md']);
  t.strictSame(
    pages.filter((page) => !found.has(page)),
    [],
  );
});

t.test('npm scripts that the documents name exist', async (t) => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const missing = pages.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/npm run (?:-s )?([a-z][a-z:-]*)/g)]
      .map(([, name = '']) => name)
      .filter((name) => !(name in scripts))
      .map((name) => `${file}: npm run ${name}`),
  );
  t.strictSame(missing, []);
});

t.test('commands and options of ucloud that the text names exist', async (t) => {
  const strange: string[] = [];
  let seen = 0;
  for (const page of pages) {
    const spans = [...readFileSync(page, 'utf8').matchAll(/(?<!`)`(?:npx )?ucloud ([^`…]+)`(?!`)/g)];
    for (const [span, said = ''] of spans) {
      seen++;
      let command: Command = ucloudProgram();
      const words = said.split(/\s+/);
      while (command.commands.length > 0 && words[0] !== undefined && !words[0].startsWith('-')) {
        const next = command.commands.find((each) => each.name() === words[0]);
        if (!next) strange.push(`${page}: ${span}: there is no ${words[0]}`);
        if (!next) break;
        command = next;
        words.shift();
      }
      const options = new Set(['--help', ...command.options.map(({ long }) => long)]);
      for (const word of words.filter((each) => each.startsWith('--')))
        if (!options.has(word)) strange.push(`${page}: ${span}: there is no ${word}`);
    }
  }
  t.strictSame(strange, []);
  t.ok(seen > 20);
});

t.test('commands cannot hide in a block of another kind', async (t) => {
  const known = ['sh', 'text', 'terraform', 'hcl', 'json', 'ts'];
  const strange: string[] = [];
  for (const page of pages) {
    let open: string | undefined;
    readFileSync(page, 'utf8')
      .split('\n')
      .forEach((line, index, lines) => {
        const [, fence, language = ''] = /^ *(```+)(.*)$/.exec(line) ?? [];
        const begins = fence !== undefined && open === undefined;
        if (begins && !known.includes(language)) strange.push(`${page}:${index + 1}: a block of "${language}"`);
        if (open === undefined && lines[index - 1] === '' && /^( {4}|\t)\S/.test(line))
          strange.push(`${page}:${index + 1}: a block without a fence`);
        if (begins) open = fence;
        else if (fence === open) open = undefined;
      });
    t.equal(open, undefined, `${page}: each block ends`);
  }
  t.strictSame(strange, []);
});

/** The files of a clone, for commands that write beside them. */
function clone(t: Test): string {
  const directory = temporaryDirectory(t);
  for (const name of readdirSync('.')) {
    if (!/^(\.git|\.ucloud|\.tap|dist)$/.test(name)) symlinkSync(resolve(name), join(directory, name));
  }
  return directory;
}

interface Followed {
  readonly page: string;
  readonly skip?: string | false;
  /** The preconditions of the page, and the differences of this machine. */
  readonly prepare: (t: Test, clone: string, home: string) => Promise<Preparation>;
}
interface Preparation {
  readonly environment?: NodeJS.ProcessEnv;
  readonly directory?: string;
  readonly adapt?: (text: string) => string;
}

const simulatedCloud = async (t: Test, home: string, ...options: string[]): Promise<Cloud> => {
  const cloud = await startCloud(join(home, 'data'), ['--hypervisor', 'simulated', ...options]);
  t.teardown(() => cloud.stop());
  return cloud;
};

/** Makes a cloud with an image `demo` and a network `web`. */
const cloudWithImage = async (t: Test, home: string, ...options: string[]): Promise<Preparation> => {
  const cloud = await simulatedCloud(t, home, ...options);
  const disk = join(home, 'empty.raw');
  writeFileSync(disk, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
  await setUpCloud(cloud, join(home, 'data'), disk);
  await cloud.ucloud('prefix', 'create', '--name', 'site');
  await cloud.ucloud('network', 'create', '--name', 'web', '--prefix', 'site');
  return { environment: { UCLOUD_CREDENTIALS: cloud.credentials, UCLOUD_ENDPOINT: cloud.endpoint } };
};

const followed: readonly Followed[] = [
  {
    page: 'README.md',
    prepare: async (t, _clone, home) => {
      const { credentials, endpoint } = await simulatedCloud(t, home);
      return { environment: { UCLOUD_CREDENTIALS: credentials, UCLOUD_ENDPOINT: endpoint } };
    },
  },
  {
    page: 'docs/operating.md',
    skip: (await noQemu()) || needsEtcd().skip || false,
    prepare: async (t, clone, home) => {
      const etcd = await startEtcd(t);
      await makeCertificates(clone);
      renameSync(join(clone, 'server.pem'), join(clone, 'chain.pem'));
      renameSync(join(clone, 'server-key.pem'), join(clone, 'key.pem'));
      mkdirSync(join(home, '.ssh'));
      writeFileSync(join(home, '.ssh/id_ed25519.pub'), testPublicKey);
      const [all, each] = [`--data ${join(home, 'data')}`, `--data ${join(home, 'etcd')}`];
      return {
        adapt: (text) =>
          text
            .replace(/^ucloud up .*/m, `$& ${all} --hypervisor simulated`)
            .replace(/^ucloud (scanner|agent) .*/gm, `$& ${each} --hypervisor simulated`)
            .replace(/^ucloud image import .*/m, `$& ${all}`)
            .replace(/(?<=--listen )'.*'/g, "'[::1]:0'")
            .replaceAll('etcd.example:2379', etcd.endpoint),
      };
    },
  },
  {
    page: 'docs/guest-images.md',
    skip: await noQemu(),
    prepare: async (t) => {
      const tree = temporaryDirectory(t);
      mkdirSync(join(tree, 'etc/rc2.d'), { recursive: true });
      return { adapt: (text) => text.replace('/mnt/image', tree) };
    },
  },
  {
    page: 'docs/terraform-state.md',
    skip: terraformMissing() ?? false,
    prepare: async (t, _clone, home) => {
      const cloud = await simulatedCloud(t, home);
      const { secret } = await cloud.ucloud('token', 'create', '--name', 'terraform', '--project', cloud.project);
      const directory = temporaryDirectory(t);
      writeFileSync(join(directory, 'main.tf'), 'resource "terraform_data" "kept" {}\n');
      return {
        directory,
        environment: {
          UCLOUD_ENDPOINT: cloud.endpoint,
          UCLOUD_TOKEN: String(secret),
          TF_CLI_ARGS_apply: '-auto-approve',
        },
        adapt: (text) => text.replaceAll('https://cloud.example.net:7780', cloud.endpoint),
      };
    },
  },
  {
    page: 'docs/guides/keep-your-data.md',
    prepare: (t, _clone, home) => cloudWithImage(t, home),
  },
  {
    page: 'docs/guides/route-a-prefix.md',
    prepare: (t, _clone, home) => cloudWithImage(t, home),
  },
  {
    page: 'docs/guides/change-interfaces.md',
    prepare: (t, _clone, home) => cloudWithImage(t, home),
  },
  {
    page: 'docs/guides/filter-connections.md',
    prepare: (t, _clone, home) => cloudWithImage(t, home),
  },
  {
    page: 'docs/guides/set-prices.md',
    prepare: (t, _clone, home) => cloudWithImage(t, home),
  },
  {
    page: 'docs/guides/choose-hosts.md',
    prepare: (t, _clone, home) => cloudWithImage(t, home, '--name', 'rack1-node1'),
  },
  {
    page: 'docs/provider-registry.md',
    skip: gpgMissing() ?? false,
    prepare: async (t, _clone, home) => {
      const keys = join(home, '.gnupg');
      mkdirSync(keys, { mode: 0o700 });
      // Where the reader is asked for a passphrase.
      writeFileSync(join(keys, 'gpg.conf'), 'batch\npinentry-mode loopback\npassphrase-file /dev/null\n');
      t.teardown(() => exec('gpgconf', ['--homedir', keys, '--kill', 'all']));
      return {
        environment: { GNUPGHOME: keys },
        adapt: (text) => text.replace('package:provider -- ', 'package:provider -- --output "$PWD/dist/registry" '),
      };
    },
  },
];

/** Written from provider/examples, whose imports test/terraform/examples.test.ts runs. */
const isImported = (page: string): boolean => page.startsWith('provider/docs/resources/');

t.test('every block of commands is run by a test, or says why not', async (t) => {
  const commands = pages.filter((page) => blocks(page, 'sh').length > 0);
  const followedHere = new Set(followed.map(({ page }) => page));
  for (const page of commands) {
    const left = guideBlocks(readFileSync(page, 'utf8')).filter(
      (block) => block.language === 'sh' && exemption(page, block) === undefined,
    );
    const elsewhere = followedBy[copies[page] ?? page];
    const isFollowed =
      elsewhere === undefined ? followedHere.has(page) : readFileSync(elsewhere, 'utf8').includes(copies[page] ?? page);
    if (!isFollowed && !isImported(page))
      t.strictSame(
        left.map(({ line }) => `${page}:${line}`),
        [],
        page,
      );
  }
  t.strictSame(staleExemptions(), [], 'no exemption outlives its block');
  t.strictSame(
    [...followedHere].filter((page) => !commands.includes(page)),
    [],
    'pages that are followed have commands',
  );
});

for (const { page, skip = false, prepare } of followed) {
  t.test(`${page}, followed from top to bottom`, { skip }, async (t) => {
    const [copy, home] = [clone(t), temporaryDirectory(t)];
    const { environment = {}, directory = copy, adapt = (text: string) => text } = await prepare(t, copy, home);
    await runGuide(t, page, temporaryDirectory(t), {
      directory,
      environment: { ...readerEnvironment(home), ...environment },
      exempt: (block) => exemption(page, block),
      // The command is installed. Without it, npx would look into the registry.
      adapt: (text) => adapt(text.replaceAll('npx ucloud', 'ucloud')),
    });
  });
}

t.test(
  'the example of the README applies, and a second plan is empty',
  { skip: terraformMissing() ?? false },
  async (t) => {
    const directory = temporaryDirectory(t);
    const data = join(directory, 'data');
    const cloud = await startCloud(data, ['--hypervisor', 'simulated']);
    t.teardown(() => cloud.stop());
    const disk = join(directory, 'empty.raw');
    writeFileSync(disk, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
    const { token } = await setUpCloud(cloud, data, disk);
    const { mirror } = await buildProvider(join(directory, 'dist'));
    const [example = ''] = blocks('README.md', 'hcl');
    const before = `
      terraform {
        required_providers {
          ucloud = { source = "ucloud.localhost/ucloud/ucloud" }
        }
      }
      data "ucloud_image" "demo" { name = "demo" }
      resource "ucloud_prefix" "site" { name = "site" }
      resource "ucloud_ssh_key" "me" {
        name       = "me"
        public_key = "${testPublicKey} me"
      }`;
    const work = join(directory, 'readme');
    mkdirSync(work);
    writeFileSync(join(work, 'main.tf'), `${before}\n${example}`);
    const config = join(directory, 'terraform.rc');
    writeFileSync(config, `provider_installation {\n  filesystem_mirror { path = ${JSON.stringify(mirror)} }\n}\n`);
    const env = {
      ...process.env,
      UCLOUD_CREDENTIALS: cloud.credentials,
      UCLOUD_ENDPOINT: cloud.endpoint,
      UCLOUD_TOKEN: token,
      UCLOUD_NODE: process.execPath,
      TF_CLI_CONFIG_FILE: config,
      CHECKPOINT_DISABLE: '1',
    };
    const terraform = (...args: string[]) => exec('terraform', [...args, '-no-color'], { cwd: work, env });
    await terraform('init');
    await terraform('apply', '-auto-approve');
    const { stdout } = await terraform('output', '-json');
    const addresses = JSON.parse(stdout).addresses.value as Record<string, string>;
    t.strictSame(Object.keys(addresses).sort(), ['web-1', 'web-2']);
    await t.resolves(terraform('plan', '-detailed-exitcode'), 'nothing to do');
    await terraform('destroy', '-auto-approve');
  },
);

t.test('the test looks for the output that a guide shows', async (t) => {
  const printed = '\x1b[31m│\x1b[0m Error: VM "giant" is not\n│ running  within 5 s\nvm-01';
  t.strictSame(missingLines('Error: VM "giant" is not running\n\nvm-…1\n', printed), []);
  t.strictSame(missingLines('Error: VM "giant" is running\nvm-…1', printed), ['Error: VM "giant" is running']);
  t.match(guideBlocks('text\n\n<!-- ends with 1 -->\n```sh\nfalse\n```\n\n```text\nno\n```\n'), [
    { language: 'sh', text: 'false\n', remark: 'ends with 1', line: 5 },
    { language: 'text', text: 'no\n', remark: '', line: 9 },
  ]);
});
