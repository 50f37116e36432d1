/** ucloud-init and the scripts of the guest, under the shells that images have. demo-image.test.ts boots the whole image. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { until } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/stores.ts';

const run = promisify(execFile);
const guestDirectory = new URL('../../backend/guest/', import.meta.url).pathname;
const script = join(guestDirectory, 'ucloud-init/ucloud-init');

const missing = (program: string): string | false => {
  try {
    execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program]);
    return false;
  } catch {
    return `${program} is not installed`;
  }
};

const scripts = ['ucloud-init', 'demo-image'].flatMap((directory) =>
  readdirSync(join(guestDirectory, directory))
    .map((name) => join(guestDirectory, directory, name))
    .filter((path) => readFileSync(path, 'utf8').startsWith('#!/bin/sh')),
);

t.test('the scripts of the guest are POSIX sh', { skip: missing('shellcheck') || missing('busybox') }, async (t) => {
  t.ok(scripts.length >= 6);
  for (const path of scripts) {
    await t.resolves(run('busybox', ['sh', '-n', path]), path);
    await t.resolves(run('dash', ['-n', path]), path);
  }
  await t.resolves(run('shellcheck', scripts), 'and shellcheck has no complaint');
});

/** A metadata server as ucloud-init sees it, and a tree that stands for a guest's root. */
class FakeCloud {
  readonly tree: string;
  readonly documents: Record<string, string> = {
    'instance-id': 'vm-1\n',
    'host-name': 'web-1\n',
    'ssh-keys': '',
    'user-data': '',
  };
  readonly ready: string[] = [];
  /** How often each document was asked for. */
  readonly asked: Record<string, number> = {};
  url = '';

  constructor(tree: string) {
    this.tree = tree;
    for (const directory of ['etc', 'home/ann']) mkdirSync(join(tree, directory), { recursive: true });
    chmodSync(tree, 0o755);
    writeFileSync(join(tree, 'etc/hostname'), 'image\n');
    writeFileSync(join(tree, 'etc/hosts'), '127.0.0.1 localhost\n');
  }

  async start(t: Test): Promise<void> {
    const server = createServer((request, response) => {
      const name = (request.url ?? '').replace('/v1/', '');
      const document = this.documents[name];
      this.asked[name] = (this.asked[name] ?? 0) + 1;
      if (request.method === 'POST' && request.url === '/v1/ready') {
        let body = '';
        request.setEncoding('utf8').on('data', (text: string) => {
          body += text;
        });
        request.on('end', () => {
          this.ready.push(body);
          response.writeHead(204).end();
        });
      } else if (document === undefined) response.writeHead(404).end('not here\n');
      else response.end(document);
    });
    await new Promise<void>((resolve) => server.listen(0, '::1', resolve));
    t.teardown(() => server.close());
    this.url = `http://[::1]:${(server.address() as AddressInfo).port}`;
  }

  /** One boot. */
  async boot(shell: readonly string[]): Promise<string> {
    const [program = '', ...args] = shell;
    const env = { PATH: process.env.PATH, UCLOUD_INIT_ROOT: this.tree, UCLOUD_INIT_METADATA: this.url };
    const { stdout } = await run(program, [...args, script, 'boot'], { env });
    return stdout;
  }

  /** The work after a boot; the answer ends it. */
  watch(shell: readonly string[]): () => Promise<void> {
    const [program = '', ...args] = shell;
    const env = { PATH: process.env.PATH, UCLOUD_INIT_ROOT: this.tree, UCLOUD_INIT_METADATA: this.url };
    const child = spawn(program, [...args, script, 'watch'], { env, stdio: 'ignore' });
    const ended = once(child, 'exit');
    return async () => {
      child.kill();
      await ended;
    };
  }

  file(path: string): string {
    return readFileSync(join(this.tree, path), 'utf8');
  }
}

const user = execFileSync('id', ['-un'], { encoding: 'utf8' }).trim();
for (const shell of [['dash'], ['busybox', 'sh']]) {
  t.test(`ucloud-init under ${shell.join(' ')}`, { skip: missing(shell[0] ?? '') || missing('curl') }, async (t) => {
    const cloud = new FakeCloud(temporaryDirectory(t));
    await cloud.start(t);
    writeFileSync(join(cloud.tree, 'etc/passwd'), `${user}:x:1000:1000::/home/ann:/bin/sh\n`);
    const keysFile = 'home/ann/.ssh/authorized_keys';

    await t.test('first boot', async (t) => {
      cloud.documents['ssh-keys'] = 'ssh-ed25519 AAAA1 ann\nssh-ed25519 AAAA2 o\'"$(touch /tmp/x)\\n`\n';
      cloud.documents['user-data'] = '#!/bin/sh\necho ran >>"$UCLOUD_INIT_ROOT/ran"\necho some output\n';
      await cloud.boot(shell);
      t.equal(cloud.file('etc/hostname'), 'web-1\n');
      t.equal(cloud.file('etc/hosts'), '127.0.0.1 localhost\n::1 web-1 # ucloud-init\n');
      t.equal(cloud.file(keysFile), cloud.documents['ssh-keys'], 'keys as they are, however they look');
      t.equal(statSync(join(cloud.tree, keysFile)).mode & 0o777, 0o600);
      t.equal(statSync(join(cloud.tree, 'home/ann/.ssh')).mode & 0o777, 0o700);
      t.equal(cloud.file('ran'), 'ran\n');
      t.equal(cloud.file('var/log/ucloud-init-user-data.log'), 'some output\n');
      t.same(cloud.ready, ['user_data=ok']);
    });

    await t.test('later boots change nothing that has not changed', async (t) => {
      const before = statSync(join(cloud.tree, keysFile));
      await cloud.boot(shell);
      t.equal(cloud.file('ran'), 'ran\n', 'user data ran once');
      t.equal(statSync(join(cloud.tree, keysFile)).ino, before.ino, 'the file of keys was not touched');
      t.same(cloud.ready, ['user_data=ok', 'user_data=ok'], 'ready is said at every boot');
    });

    await t.test('keys come and go; those of the user stay', async (t) => {
      writeFileSync(join(cloud.tree, keysFile), `# mine\nssh-ed25519 MINE own\n${cloud.file(keysFile)}`);
      cloud.documents['ssh-keys'] = 'ssh-ed25519 AAAA1 ann\nssh-ed25519 MINE own\nssh-ed25519 AAAA3 new\n';
      await cloud.boot(shell);
      t.equal(cloud.file(keysFile), '# mine\nssh-ed25519 MINE own\nssh-ed25519 AAAA1 ann\nssh-ed25519 AAAA3 new\n');
      cloud.documents['ssh-keys'] = '';
      await cloud.boot(shell);
      t.equal(cloud.file(keysFile), '# mine\nssh-ed25519 MINE own\n', 'the key that was there before us is not ours');
    });

    await t.test('a key that changes while the guest runs is let in, and the old one is shut out', async (t) => {
      cloud.documents['ssh-keys'] = 'ssh-ed25519 OLD ops\n';
      await cloud.boot(shell);
      writeFileSync(join(cloud.tree, 'etc/ucloud-init.conf'), 'refresh=1\n');
      const stop = cloud.watch(shell);
      t.teardown(stop);
      const own = '# mine\nssh-ed25519 MINE own\n';
      cloud.documents['ssh-keys'] = 'ssh-ed25519 NEW ops\n';
      await until('the new key', () => cloud.file(keysFile) === `${own}ssh-ed25519 NEW ops\n`);
      const asked = cloud.asked['ssh-keys'] ?? 0;
      delete cloud.documents['ssh-keys'];
      await until('it has asked in vain', () => (cloud.asked['ssh-keys'] ?? 0) > asked + 1);
      t.equal(cloud.file(keysFile), `${own}ssh-ed25519 NEW ops\n`, 'no answer takes no key away');
      cloud.documents['ssh-keys'] = '';
      await until('all keys are taken away', () => cloud.file(keysFile) === own);
      await stop();
      t.equal(cloud.file('ran'), 'ran\n', 'nothing else of a boot is done again');
    });

    await t.test('a disk that was copied to another VM starts over', async (t) => {
      cloud.documents['instance-id'] = 'vm-2\n';
      cloud.documents['host-name'] = 'web-2\n';
      await cloud.boot(shell);
      t.equal(cloud.file('ran'), 'ran\nran\n');
      t.equal(cloud.file('etc/hosts'), '127.0.0.1 localhost\n::1 web-2 # ucloud-init\n');
    });

    await t.test('user data that fails, or is no script, or is cut short', async (t) => {
      const next = (id: string, data: string) => {
        cloud.documents['instance-id'] = `${id}\n`;
        cloud.documents['user-data'] = data;
        cloud.ready.length = 0;
      };
      next('vm-3', '#!/bin/sh\nexit 7\n');
      await cloud.boot(shell);
      await cloud.boot(shell);
      t.same(
        cloud.ready,
        ['user_data=failed\nexit_code=7', 'user_data=failed\nexit_code=7'],
        'the code is said at later boots, too',
      );
      next('vm-4', '#cloud-config\nhostname: x\n');
      t.match(await cloud.boot(shell), /does not start with #!: ignored/);
      t.same(cloud.ready, ['user_data=ignored']);
      next('vm-5', '#!/bin/sh\necho twice >>"$UCLOUD_INIT_ROOT/ran"\nkill -9 "$PPID"\nsleep 0.2\n');
      await t.rejects(cloud.boot(shell), 'the guest dies while it runs');
      t.same(cloud.ready, []);
      await cloud.boot(shell);
      await cloud.boot(shell);
      t.same(cloud.ready, ['user_data=interrupted', 'user_data=interrupted']);
      t.equal(cloud.file('ran').split('twice').length - 1, 1, 'it is not run twice');
    });

    await t.test('user data that has changed runs at the next boot, and once', async (t) => {
      cloud.documents['instance-id'] = 'vm-6\n';
      rmSync(join(cloud.tree, 'ran'));
      const boot = async (data: string, said: string, ran: string) => {
        cloud.documents['user-data'] = data;
        cloud.ready.length = 0;
        await cloud.boot(shell);
        t.same(cloud.ready, [`user_data=${said}`], ran);
        t.equal(cloud.file('ran'), ran);
      };
      const script = (word: string, more = '') => `#!/bin/sh\necho ${word} >>"$UCLOUD_INIT_ROOT/ran"\n${more}`;
      await boot(script('a'), 'ok', 'a\n');
      await boot(script('b', 'exit 1\n'), 'failed\nexit_code=1', 'a\nb\n');
      await boot(script('b', 'exit 1\n'), 'failed\nexit_code=1', 'a\nb\n');
      await boot(script('a'), 'ok', 'a\nb\na\n');
      await boot('', 'none', 'a\nb\na\n');
      await boot('#cloud-config\n', 'ignored', 'a\nb\na\n');
      await boot(script('a'), 'ok', 'a\nb\na\n');
      await boot(script('c', 'rm "$0"\n'), 'ok', 'a\nb\na\nc\n');
      await boot(script('c', 'rm "$0"\n'), 'ok', 'a\nb\na\nc\n');

      const dies = script('d', '[ -e "$UCLOUD_INIT_ROOT/alive" ] || kill -9 "$PPID"\nsleep 0.2\n');
      await t.rejects(boot(dies, '', ''), 'what was changed is cut short');
      await boot(dies, 'interrupted', 'a\nb\na\nc\nd\n');
      await boot(script('e'), 'ok', 'a\nb\na\nc\nd\ne\n');
    });

    await t.test('what an earlier version has run is not run again', async (t) => {
      const state = (name: string) => join(cloud.tree, 'var/lib/ucloud-init', name);
      const ranBefore = cloud.file('ran');
      const left = async (result: string | undefined, kept: boolean) => {
        rmSync(state('user-data.last'));
        rmSync(state('user-data'), { force: true });
        if (kept) writeFileSync(state('user-data'), cloud.documents['user-data'] ?? '');
        writeFileSync(state('user-data.started'), '');
        if (result) writeFileSync(state('user-data.result'), `${result}\n`);
        cloud.ready.length = 0;
        await cloud.boot(shell);
        t.equal(cloud.file('ran'), ranBefore);
        t.notOk(existsSync(state('user-data.started')));
        return cloud.ready;
      };
      t.same(await left('ok', true), ['user_data=ok']);
      t.same(await left('failed', false), ['user_data=failed']);
      t.same(await left(undefined, true), ['user_data=interrupted']);
      cloud.documents['user-data'] = '#!/bin/sh\n# another\n';
      t.same(await left('failed', false), ['user_data=failed'], 'it is taken for the same where nobody knows');
    });

    await t.test('nothing but a host name becomes the host name', async (t) => {
      cloud.documents['host-name'] = 'web-9; reboot\n';
      t.match(await cloud.boot(shell), /not a host name/);
      t.notMatch(cloud.file('etc/hostname'), /web-9/);
    });
  });
}

t.test(
  'keys are written as the user, who cannot lead root astray by a link',
  { skip: process.getuid?.() === 0 ? missing('su') || missing('curl') : 'needs root, to become another user' },
  async (t) => {
    const cloud = new FakeCloud(temporaryDirectory(t));
    await cloud.start(t);
    writeFileSync(join(cloud.tree, 'etc/passwd'), 'nobody:x:1000:1000::/home/ann:/bin/sh\n');
    const uid = Number(execFileSync('id', ['-u', 'nobody'], { encoding: 'utf8' }));
    chownSync(join(cloud.tree, 'home/ann'), uid, uid);
    cloud.documents['ssh-keys'] = 'ssh-ed25519 AAAA1 ann\n';
    await cloud.boot(['dash']);
    const file = join(cloud.tree, 'home/ann/.ssh/authorized_keys');
    t.equal(readFileSync(file, 'utf8'), 'ssh-ed25519 AAAA1 ann\n');
    t.equal(statSync(file).uid, uid);

    const secret = join(cloud.tree, 'root-ssh');
    mkdirSync(secret, { mode: 0o700 });
    execFileSync('rm', ['-r', join(cloud.tree, 'home/ann/.ssh')]);
    execFileSync('ln', ['-s', secret, join(cloud.tree, 'home/ann/.ssh')]);
    t.match(await cloud.boot(['dash']), /no ssh keys for nobody/);
    t.same(readdirSync(secret), [], 'nothing was written where the user may not');
    t.same(cloud.ready.length, 2, 'and the rest went on');
  },
);

t.test('install.sh puts ucloud-init into the tree of an image, for the init that it has', async (t) => {
  const install = (tree: string) => run('sh', [join(guestDirectory, 'ucloud-init/install.sh'), tree]);
  const kinds: [string, string, string][] = [
    ['systemd', 'usr/lib/systemd/system/x', 'etc/systemd/system/multi-user.target.wants/ucloud-init.service'],
    ['OpenRC', 'sbin/openrc-run', 'etc/runlevels/default/ucloud-init'],
    ['System V', 'etc/rc2.d/x', 'etc/rc2.d/S99ucloud-init'],
  ];
  for (const [name, sign, link] of kinds) {
    const tree = temporaryDirectory(t);
    mkdirSync(join(tree, sign, '..'), { recursive: true });
    writeFileSync(join(tree, sign), '');
    await install(tree);
    await install(tree);
    t.ok(existsSync(join(tree, 'usr/sbin/ucloud-init')), name);
    t.ok(readdirSync(join(tree, link, '..')).includes(link.split('/').at(-1) ?? ''), `${name} starts it`);
    if (name === 'System V') {
      t.match(readFileSync(join(tree, 'etc/init.d/ucloud-init'), 'utf8'), /ucloud-init watch/);
    } else {
      const watch = basename(link).replace('ucloud-init', 'ucloud-init-watch');
      t.ok(readdirSync(join(tree, dirname(link))).includes(watch), `${name} has it go on asking`);
    }
  }
  const bare = temporaryDirectory(t);
  t.match((await install(bare)).stderr, /have its init run/, 'otherwise it says what is to be done');
});
