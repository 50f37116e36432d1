/** What the documents say can be done, done: commands, the example of the README, links. */
import { execFile } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { type Cloud, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { guideBlocks, missingLines, runGuide } from '../support/guide.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const exec = promisify(execFile);
const documents = globSync([
  '*.md',
  'docs/**/*.md',
  'provider/docs/**/*.md',
  'provider/framework/*.md',
  'provider/constructs/*.md',
  'cdk-examples/*.md',
]);

/** Run from top to bottom by a test of their own. */
const isGuide = (file: string): boolean => file.includes('docs/guides/');

const blocks = (file: string, language: string): string[] =>
  [...readFileSync(file, 'utf8').matchAll(/^```(\w+)\n(.*?)^```/gms)]
    .filter(([, found]) => found === language)
    .map(([, , text = '']) => text);

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

t.test('links lead somewhere', async (t) => {
  const all = documents.flatMap(links);
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
  const missing = documents.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/npm run (?:-s )?([a-z][a-z:-]*)/g)]
      .map(([, name = '']) => name)
      .filter((name) => !(name in scripts))
      .map((name) => `${file}: npm run ${name}`),
  );
  t.strictSame(missing, []);
});

t.test('on a cloud of its own', async (t) => {
  const directory = temporaryDirectory(t);
  const data = join(directory, 'data');
  const cloud: Cloud = await startCloud(data, ['--hypervisor', 'simulated']);
  t.teardown(() => cloud.stop());
  const environment = {
    ...process.env,
    PATH: [resolve('node_modules/.bin'), process.env.PATH].join(delimiter),
    UCLOUD_CREDENTIALS: cloud.credentials,
    UCLOUD_ENDPOINT: cloud.endpoint,
  };

  await t.test('the commands work as written', async (t) => {
    const scripts = documents
      .filter((file) => !isGuide(file))
      .flatMap((file) => blocks(file, 'sh').map((text) => ({ file, text })));
    const commands = scripts.filter(({ text }) =>
      /^npx ucloud (?!up\b|api\b|agent\b|scheduler\b|scanner\b)/m.test(text),
    );
    t.ok(commands.length > 0, 'there are some');
    for (const { file, text } of commands) {
      // npx would look into the registry for what it does not find; the command is there already.
      const script = text.replaceAll('npx ucloud', 'ucloud');
      const { stdout } = await exec('sh', ['-e', '-c', script], { env: environment });
      t.ok(stdout.length > 0, `${file}:\n${text}`);
    }
  });

  await t.test('the example of the README applies, and a second plan is empty', async (t) => {
    const disk = join(directory, 'empty.raw');
    writeFileSync(disk, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
    const { token } = await setUpCloud(cloud, data, disk);
    await exec(process.execPath, ['provider/build.ts']);
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
        public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T me"
      }`;
    const work = join(directory, 'readme');
    mkdirSync(work);
    writeFileSync(join(work, 'main.tf'), `${before}\n${example}`);
    const config = join(directory, 'terraform.rc');
    writeFileSync(
      config,
      `provider_installation {\n  filesystem_mirror { path = ${JSON.stringify(resolve('dist/mirror'))} }\n}\n`,
    );
    const env = {
      ...environment,
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
  });
});

t.test('what a guide says is printed, is looked for', async (t) => {
  const printed = '\x1b[31m│\x1b[0m Error: VM "giant" is not\n│ running  within 5 s\nvm-01';
  t.strictSame(missingLines('Error: VM "giant" is not running\n\nvm-…1\n', printed), []);
  t.strictSame(missingLines('Error: VM "giant" is running\nvm-…1', printed), ['Error: VM "giant" is running']);
  t.match(guideBlocks('text\n\n<!-- ends with 1 -->\n```sh\nfalse\n```\n\n```text\nno\n```\n'), [
    { language: 'sh', text: 'false\n', remark: 'ends with 1', line: 5 },
    { language: 'text', text: 'no\n', remark: '', line: 9 },
  ]);
});

t.test('the guide from nothing to ten VMs, on simulated hosts', { skip: terraformMissing() ?? false }, async (t) => {
  // Ten guests without hardware virtualisation take minutes and every core; that real ones start, answer and let their
  // users in is shown by the tests of the demo and of ten VMs. What needs a guest is left out here, and said so.
  const home = temporaryDirectory(t);
  writeFileSync(join(home, 'demo.qcow2'), Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
  const { UCLOUD_CREDENTIALS, UCLOUD_ENDPOINT, UCLOUD_TOKEN, UCLOUD_PROJECT, TF_CLI_CONFIG_FILE, ...inherited } =
    process.env;
  await runGuide(t, 'docs/guides/from-nothing-to-ten-vms.md', temporaryDirectory(t), {
    directory: resolve('.'),
    environment: { ...inherited, HOME: home, CHECKPOINT_DISABLE: '1', TF_IN_AUTOMATION: '1', NO_COLOR: '1' },
    qemu: false,
    adapt: (commands) =>
      commands.replace('[::1]:7780', '[::1]:0').replace(/^ucloud up .*/m, '$& --hypervisor simulated'),
  });
});
