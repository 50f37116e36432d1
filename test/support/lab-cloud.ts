/** `ucloud lab` with a cloud in it: the daemons, etcd and bird are real, and guests are those of QEMU or simulated ones. */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { type LabOptions, type LabPlan, labPlan, namespaceOf, spine, storeUrl } from '../../backend/lab/plan.ts';
import { ApiClient, type Body } from './api.ts';
import { runUcloud } from './cli.ts';
import { hasEtcd } from './etcd.ts';
import { until } from './eventually.ts';
import { NetNamespace, noNamespaces } from './net-namespace.ts';
import { temporaryDirectory } from './stores.ts';

const exec = promisify(execFile);

/** The long form of the tests in test/lab: `npm run show`. */
export const isLong = process.env.UCLOUD_SHOW === 'all';

/** Prints a figure for people. A long run shows it, and so does a failure. */
export function tell(t: Test, text: string): void {
  t.comment(text);
  if (isLong) console.error(text);
}

/** Returns why this machine cannot run a lab with BGP, or false: for the `skip` option of a test. */
export const noLab = (): string | false =>
  noNamespaces('nft', 'openssl', 'sysctl', 'bird', 'radvd', 'bridge', 'ping', 'python3') ||
  (hasEtcd ? false : 'etcd is not installed');

/** The label with the name of each host. VMs select their host by it. */
const place = 'place';

const sshOptions = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];

export class LabCloud {
  readonly directory: string;
  readonly plan: LabPlan;
  readonly operator: ApiClient;
  readonly member: ApiClient;
  /** The ids of the hosts, by name. */
  readonly hosts: ReadonlyMap<string, string>;
  readonly #credentials: string;

  private constructor(directory: string, plan: LabPlan, clients: [ApiClient, ApiClient], hosts: Map<string, string>) {
    this.directory = directory;
    this.plan = plan;
    [this.operator, this.member] = clients;
    this.hosts = hosts;
    this.#credentials = join(directory, 'credentials.json');
  }

  /** Starts the lab, and waits for its BGP sessions. The test removes it at its end. */
  static async start(t: Test, options: LabOptions): Promise<LabCloud> {
    const directory = join(temporaryDirectory(t), 'lab');
    t.teardown(() => runUcloud(['lab', 'down', '--data', directory], {}));
    const { hosts: count, etcd, hypervisor } = options;
    const words = ['--hosts', `${count}`, '--etcd', `${etcd}`, '--hypervisor', hypervisor];
    const up = await runUcloud(['lab', 'up', '--data', directory, ...words], {});
    if (up.code !== 0) throw new Error(up.err);
    const { endpoint, token, project } = JSON.parse(readFileSync(join(directory, 'credentials.json'), 'utf8'));
    const operator = new ApiClient(endpoint, token);
    const { secret } = await operator.create('tokens', { name: 'member', project, role: 'member' });
    const { items } = await operator.list('hosts');
    for (const { id, name } of items) await operator.update('hosts', id, { labels: { [place]: name } });
    await operator.expect(200, 'PATCH', '/v1/settings', { selectable_host_labels: [place] });
    const hosts = new Map(items.map(({ id, name }) => [name, id]));
    const member = new ApiClient(endpoint, secret);
    const lab = new LabCloud(directory, labPlan(directory, options), [operator, member], hosts);
    await operator.create('prefix-pools', { name: 'main', cidr: 'fd42:4242::/32' });
    await until('all hosts have a BGP session', async () => {
      const { items: peers } = await operator.list('bgp-peers');
      const sessions = (peers[0]?.sessions ?? []) as readonly { readonly state: string }[];
      return sessions.length === count && sessions.every(({ state }) => state === 'established');
    });
    return lab;
  }

  /** The address of the store, for direct access to the database. */
  get store(): string {
    return storeUrl(this.plan, join(this.directory, 'certificates'));
  }

  /** Runs a command of ucloud as the operator. @throws Error with its messages */
  async ucloud(...args: readonly string[]): Promise<string> {
    const environment = { UCLOUD_CREDENTIALS: this.#credentials, UCLOUD_LAB: this.directory };
    const { code, out, err } = await runUcloud(args, environment);
    if (code !== 0) throw new Error(`ucloud ${args.join(' ')}: ${err}`);
    return out;
  }

  /** The namespace of a node, which the lab removes. */
  node(name: string): NetNamespace {
    return new NetNamespace(namespaceOf(this.plan.id, name), true);
  }

  /** Returns the guests on a host: the pid of QEMU by VM. */
  guestsOn(host: string): Map<string, number> {
    const pids = this.node(host).pids();
    return new Map(
      pids.flatMap((pid): [string, number][] => {
        try {
          const vm = /guest=[^,\0]*?(vm-\w+)/.exec(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.[1];
          return vm === undefined ? [] : [[vm, pid]];
        } catch {
          // The process has ended.
          return [];
        }
      }),
    );
  }

  get client(): NetNamespace {
    return this.node('client');
  }

  get spine(): NetNamespace {
    return this.node(spine);
  }

  /** Uploads an image, and waits until VMs can use it. Returns its id. */
  async image(path: string, name: string): Promise<string> {
    await this.ucloud('file', 'upload', path);
    await this.ucloud('image', 'create', '--name', name, '--source', `file:${basename(path)}`, '--wait');
    return (await this.member.list('images', `?name=${name}`)).items[0]?.id ?? '';
  }

  /** Makes an image that has nothing to boot. Returns its id. */
  async emptyImage(): Promise<string> {
    const path = join(this.directory, '..', 'empty.raw');
    writeFileSync(path, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
    return this.image(path, 'empty');
  }

  /** Creates a VM on a host. */
  createVm(name: string, host: string, body: object): Promise<Body> {
    return this.member.create('vms', { name, memory: '192MiB', host_selector: `${place}=${host}`, ...body });
  }

  async reaches(vm: string, wanted: (vm: Body) => boolean): Promise<Body> {
    let item = await this.member.get('vms', vm);
    const deadline = performance.now() + 300_000;
    while (!wanted(item)) {
      if (performance.now() > deadline) throw new Error(`${vm}: ${JSON.stringify(item.status)}`);
      item = await this.member.get('vms', vm, `?after=${item.revision}&timeout=10`);
    }
    return item;
  }

  /** Sends echo requests from the client. Returns the number of answers. */
  async pingFromClient(address: string, count: number): Promise<number> {
    const words = ['-6', '-n', '-i', '0.02', '-W', '2', '-c', `${count}`, address];
    const { stdout } = await exec('ip', ['netns', 'exec', this.client.name, 'ping', ...words]).catch(
      (error: { readonly stdout?: string }) => ({ stdout: error.stdout ?? '' }),
    );
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
  }

  /** Runs a program on the client, and tells whether it ends without an error. */
  clientSucceeds(program: string, ...args: readonly string[]): Promise<boolean> {
    return exec('ip', ['netns', 'exec', this.client.name, program, ...args]).then(
      () => true,
      () => false,
    );
  }

  /** Runs a script as root in a guest, logged in from the client behind the spine. Returns its output. */
  async inGuest(address: string, key: string, script: string): Promise<string> {
    const settings = [...sshOptions, 'ConnectTimeout=5'].flatMap((each) => ['-o', each]);
    const words = ['ssh', '-p', '2222', '-i', key, ...settings, `root@${address}`, script];
    return (await exec('ip', ['netns', 'exec', this.client.name, ...words])).stdout.trim();
  }
}

/** Counts packets that pass the spine. */
export class Capture {
  readonly #spine: NetNamespace;

  constructor(lab: LabCloud) {
    this.#spine = lab.spine;
    const rules = [
      'table inet show {',
      'counter tunnelled {}',
      'counter flooded {}',
      'counter plain {}',
      'chain through {',
      'type filter hook forward priority 10; policy accept;',
      // Inside the tunnel: IPv6 (0x86dd), ICMPv6 (58), echo requests and answers. Guests also probe their neighbours.
      'udp dport 4789 @th,224,16 0x86dd @th,288,8 58 @th,560,8 { 128, 129 } counter name tunnelled',
      // The group bit of the destination of the inner frame, behind the headers of UDP and VXLAN (RFC 7348, 5).
      'udp dport 4789 @th,128,8 & 1 == 1 counter name flooded',
      'icmpv6 type { echo-request, echo-reply } counter name plain',
      '}',
      '}',
    ];
    const path = join(lab.directory, '..', 'capture.nft');
    writeFileSync(path, `${rules.join('\n')}\n`);
    this.#spine.run('nft', '-f', path);
  }

  /** Returns the numbers of packets so far: pings in tunnels, all frames to groups in tunnels, and pings outside of tunnels. */
  counts(): Record<'tunnelled' | 'flooded' | 'plain', number> {
    const text = this.#spine.run('nft', 'list', 'counters', 'table', 'inet', 'show');
    const of = (name: string) => Number(new RegExp(`counter ${name} \\{\\s*packets (\\d+)`).exec(text)?.[1]);
    return { tunnelled: of('tunnelled'), flooded: of('flooded'), plain: of('plain') };
  }

  /** Returns the numbers of packets during some work. */
  async during(work: () => Promise<unknown>): Promise<Record<'tunnelled' | 'flooded' | 'plain', number>> {
    const before = this.counts();
    await work();
    const after = this.counts();
    return {
      tunnelled: after.tunnelled - before.tunnelled,
      flooded: after.flooded - before.flooded,
      plain: after.plain - before.plain,
    };
  }
}
