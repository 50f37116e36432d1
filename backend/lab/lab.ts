/**
 * A data centre on one machine: hosts, an etcd cluster with TLS and all components, each in a network namespace.
 *
 * The record `lab.json` has the options, and everything else follows from them and from the directory. `up` does what is
 * missing, so it may be repeated after a crash at any step. `down` needs only the directory and the names of the namespaces.
 */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { writeCredentials } from '../cli/credentials.ts';
import { makeDirectory } from '../cli/make-directory.ts';
import { ensureStateKeys } from '../cli/state-key.ts';
import { birdDirectory, instanceOf, lockInstance, runDirectory } from '../host/system/instance.ts';
import { makeCertificates } from './certificates.ts';
import { runIn, writeJson } from './commands.ts';
import { describeFault, type LinkFault, ruleset, withFault, withoutNode } from './faults.ts';
import { createNamespaces, namespacesOf, removeNamespaces } from './namespaces.ts';
import {
  allNodes,
  apiPort,
  apiUrl,
  type DaemonKind,
  defaultOptions,
  describeOptions,
  etcdPorts,
  type LabNode,
  type LabOptions,
  type LabPlan,
  type LabRecord,
  labId,
  labKind,
  labPlan,
  namespaceOf,
  spine,
  storeUrl,
  type Target,
} from './plan.ts';
import { killIn, type LabProcess, processesIn, signal, startDaemon } from './processes.ts';
import { SpineBird, type SpineSession, spinePeer } from './spine.ts';

/** The time in milliseconds in which each part must be ready. */
const readyMs = 120_000;
const pollMs = 100;
/** The time in milliseconds after which `up` goes on without a BGP session. */
const sessionMs = 15_000;
const ucloud = join(import.meta.dirname, '..', 'cli', 'ucloud');

/** The state of a daemon. */
export interface DaemonState {
  readonly name: DaemonKind;
  readonly state: 'running' | 'paused' | 'stopped';
  readonly pid?: number;
}

/** The state of a node. */
export interface NodeState {
  readonly name: string;
  readonly address: string;
  readonly namespace: string;
  readonly daemons: readonly DaemonState[];
  /** The number of other processes, such as VMs. */
  readonly processes: number;
}

/** The state of a lab. */
export interface LabState {
  readonly id: string;
  readonly directory: string;
  readonly endpoint: string;
  readonly credentials: string;
  readonly nodes: readonly NodeState[];
  readonly faults: readonly LinkFault[];
  /** The BGP sessions of the router; undefined without bird. */
  readonly sessions?: readonly SpineSession[] | undefined;
}

function parseRecord(text: string): Partial<LabRecord> & LabOptions {
  try {
    return JSON.parse(text) as LabRecord;
  } catch {
    return { ...defaultOptions };
  }
}

/** A lab in a directory. */
export class Lab {
  /** The absolute path. */
  readonly directory: string;
  readonly #tell: (text: string) => void;

  /** @param tell prints progress */
  constructor(directory: string, tell: (text: string) => void) {
    this.directory = directory;
    this.#tell = tell;
  }

  #path(...parts: readonly string[]): string {
    return join(this.directory, ...parts);
  }

  get credentials(): string {
    return this.#path('credentials.json');
  }

  /** The bird of the router. */
  get #bird(): SpineBird {
    return new SpineBird(labId(this.directory));
  }

  get #certificates(): string {
    return this.#path('certificates');
  }

  /** The plan of the lab. @throws Error if the directory has no lab */
  get plan(): LabPlan {
    const options = this.#options();
    if (options === undefined) throw new Error(`there is no lab in ${this.directory}; start one with: ucloud lab up`);
    return labPlan(this.directory, options);
  }

  /** @throws Error if the record belongs to another lab or program */
  #options(): LabOptions | undefined {
    const path = this.#path('lab.json');
    if (!existsSync(path)) return undefined;
    const { kind, id, ...options } = parseRecord(readFileSync(path, 'utf8'));
    if (kind !== labKind) throw new Error(`${path} is no record of a lab`);
    if (id !== labId(this.directory)) throw new Error(`the lab in ${this.directory} was started at another path`);
    return options;
  }

  /** Runs a change of the lab, if no other command changes it. @throws Error if another one does */
  async #exclusively<T>(change: () => Promise<T>): Promise<T> {
    const unlock = await lockInstance(`lab-${labId(this.directory)}`);
    try {
      return await change();
    } finally {
      await unlock();
    }
  }

  get #faults(): LinkFault[] {
    const path = this.#path('faults.json');
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as LinkFault[]) : [];
  }

  /**
   * Creates what is missing of the lab, and waits until all hosts are alive.
   * @param asked default: the options of the present lab, or `defaultOptions`
   * @throws Error if the directory has other files, or a lab with other options
   */
  up(asked: Partial<LabOptions>): Promise<LabOptions> {
    return this.#exclusively(() => this.#up(asked));
  }

  async #up(asked: Partial<LabOptions>): Promise<LabOptions> {
    const present = this.#options();
    if (present === undefined && existsSync(this.directory) && readdirSync(this.directory).length > 0) {
      throw new Error(`--data: ${this.directory} is not empty and has no lab`);
    }
    const options = { ...(present ?? defaultOptions), ...asked };
    if (present !== undefined && describeOptions(present) !== describeOptions(options)) {
      const has = `the lab in ${this.directory} has the options ${describeOptions(present)}`;
      throw new Error(`${has}. To replace it with all its VMs, remove it first: ucloud lab down`);
    }
    makeDirectory(this.directory, 0o700);
    if (statSync(this.directory).uid !== process.getuid?.()) {
      throw new Error(`--data: ${this.directory} must belong to root`);
    }
    await writeJson(this.#path('lab.json'), { kind: labKind, id: labId(this.directory), ...options });
    makeDirectory(this.#path('log'), 0o700);
    const { plan } = this;
    this.#tell(`lab ${plan.id} in ${this.directory}`);
    const addresses = plan.nodes.filter(({ daemons }) => daemons.includes('etcd')).map(({ address }) => address);
    await makeCertificates(this.#certificates, { server: addresses, client: [] });
    this.#tell(`creating ${plan.nodes.length + 1} network namespaces`);
    await createNamespaces(plan);
    await this.#applyFaults(this.#faults);
    for (const fault of this.#faults) this.#tell(`a fault stays until it is healed: ${describeFault(fault)}`);
    await this.#startMissing('bird');
    this.#tell(`starting ${addresses.length} etcd members`);
    await this.#startMissing('etcd');
    await this.#prepareDatabase();
    this.#tell('starting the components');
    await this.#startMissing();
    await this.#waitForHosts(options.hosts);
    if (await this.#bird.isInstalled()) await this.#startSessions();
    else this.#tell('bird is not installed, so the client does not reach VMs: apt-get install bird2');
    return options;
  }

  /** Starts the daemons that do not run: of one kind, or of all, on one node or on all. */
  async #startMissing(kind?: DaemonKind, only?: string): Promise<void> {
    for (const node of allNodes(this.plan)) {
      if (only !== undefined && node.name !== only) continue;
      const running = await processesIn(namespaceOf(this.plan.id, node.name));
      for (const daemon of node.daemons) {
        if ((kind ?? daemon) !== daemon || running.some((each) => each.daemon === daemon)) continue;
        if (daemon === 'bird' && !(await this.#bird.isInstalled())) continue;
        const program = daemon === 'bird' ? await this.#bird.prepare(this.plan) : this.#program(node, daemon);
        await startDaemon({
          ...{ lab: this.plan.id, node: node.name, daemon, program },
          log: this.#path('log', `${node.name}-${daemon}.log`),
        });
      }
    }
  }

  /** Returns the command line of a daemon. */
  #program({ name, address }: LabNode, daemon: Exclude<DaemonKind, 'bird'>): string[] {
    const data = this.#path('nodes', name);
    makeDirectory(data, 0o700);
    const hypervisor = this.#options()?.hypervisor ?? 'auto';
    const store = ['--store', storeUrl(this.plan, this.#certificates)];
    // The image scanner and the file server share this directory.
    const files = this.#path('nodes', 'scanner-1', 'files');
    const at = `[${address}]`;
    switch (daemon) {
      case 'etcd':
        return this.#etcd(name, at, data);
      case 'api':
        return [
          ...[ucloud, 'api', ...store, '--listen', `${at}:${apiPort}`],
          ...['--state-key', this.#path('state.key'), '--files', files],
        ];
      case 'scheduler':
        return [ucloud, 'scheduler', ...store];
      case 'billing':
        return [ucloud, 'billing', ...store];
      case 'scanner':
        return [
          ucloud,
          'scanner',
          ...store,
          '--data',
          data,
          '--hypervisor',
          hypervisor,
          '--image-listen',
          `${at}:7781`,
        ];
      case 'file-scanner':
        return [ucloud, 'file-scanner', ...store, '--data', data, '--files', files, '--name', name];
      case 'agent':
        return [
          ...[ucloud, 'agent', ...store, '--data', data, '--hypervisor', hypervisor, '--name', name],
          ...['--underlay-address', address],
        ];
    }
  }

  #etcd(name: string, at: string, data: string): string[] {
    const [client, peer] = [`https://${at}:${etcdPorts.client}`, `https://${at}:${etcdPorts.peer}`];
    const members = this.plan.nodes.filter(({ daemons }) => daemons.includes('etcd'));
    const cluster = members.map((each) => `${each.name}=https://[${each.address}]:${etcdPorts.peer}`).join(',');
    const file = (each: string) => join(this.#certificates, each);
    const tls = (prefix: string) => [
      ...[`--${prefix}cert-file`, file('server.pem'), `--${prefix}key-file`, file('server-key.pem')],
      ...[`--${prefix}trusted-ca-file`, file('ca.pem'), `--${prefix}client-cert-auth`],
    ];
    return [
      ...['etcd', '--name', name, '--data-dir', join(data, 'etcd'), '--logger', 'zap'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client, ...tls('')],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, ...tls('peer-')],
      ...['--initial-cluster', cluster, '--initial-cluster-state', 'new', '--initial-cluster-token', this.plan.id],
      ...['--heartbeat-interval', '100', '--election-timeout', '1000'],
    ];
  }

  /** Creates the first project and an operator's token, and writes the credentials. */
  async #prepareDatabase(): Promise<void> {
    const [{ ensureProject, makeOperatorToken }, { openStore }, { createLogger }] = await Promise.all([
      import('../api/tokens/first-operator-token.ts'),
      import('../store/open.ts'),
      import('../cli/log.ts'),
    ]);
    const logger = createLogger({ level: 'fatal' });
    const store = await this.#eventually('the database', () =>
      openStore(storeUrl(this.plan, this.#certificates), { logger }),
    );
    try {
      ensureStateKeys(this.#path('state.key'));
      const project = await this.#eventually('the database', () => ensureProject(store, 'default'));
      if (existsSync(this.credentials)) return;
      // A token of an attempt that was interrupted is lost, so each attempt has its own.
      const { secret } = await makeOperatorToken(store, `lab-${Date.now()}`);
      writeCredentials(this.credentials, { endpoint: apiUrl(this.plan), token: secret, project });
    } finally {
      await store.close();
    }
  }

  /** Sends a request to the API as the operator. */
  async #request(path: string, body?: object): Promise<Response> {
    const { token } = JSON.parse(await readFile(this.credentials, 'utf8')) as { readonly token: string };
    return fetch(`${apiUrl(this.plan)}/v1/${path}`, {
      ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(5_000),
    });
  }

  /**
   * Declares the router as a BGP peer of all hosts, unless there is a peer of this name, and waits for the sessions. A lab
   * without some of them is up as well: they end with a fault of a link, or with the peer.
   */
  async #startSessions(): Promise<void> {
    await this.#eventually('the BGP peer', async () => {
      const answer = await this.#request('bgp-peers', spinePeer);
      if (!answer.ok && answer.status !== 409) throw new Error(await answer.text());
    });
    const deadline = performance.now() + sessionMs;
    for (;;) {
      const down = (await this.#bird.sessions(this.plan))?.filter(({ state }) => state === 'down');
      if (down?.length === 0) return;
      if (performance.now() > deadline) {
        this.#tell(
          `no BGP session with ${down?.map(({ host }) => host).join(', ') ?? spine}; see: ucloud bgp-peer get spine`,
        );
        return;
      }
      await delay(pollMs);
    }
  }

  async #waitForHosts(count: number): Promise<void> {
    await this.#eventually(`${count} hosts`, async () => {
      const answer = await this.#request('hosts?limit=100');
      const { items = [] } = (await answer.json()) as { readonly items?: readonly { readonly alive: boolean }[] };
      const alive = items.filter((each) => each.alive).length;
      if (alive < count) throw new Error(`${alive} hosts are alive`);
    });
  }

  /** Calls until the call succeeds, and says that it waits. @throws Error with the last error and the place of the logs */
  async #eventually<T>(subject: string, call: () => Promise<T>): Promise<T> {
    const begin = performance.now();
    let told = false;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (performance.now() - begin > readyMs) {
          const logs = `the logs are in ${this.#path('log')}`;
          throw new Error(`${subject} not ready after ${readyMs / 1000} s; ${logs}`, { cause: error });
        }
        if (!told && performance.now() - begin > 2_000) {
          this.#tell(`waiting for ${subject}`);
          told = true;
        }
        await delay(pollMs);
      }
    }
  }

  /** Returns the state of the lab. */
  async state(): Promise<LabState> {
    const { plan } = this;
    const nodes: NodeState[] = [];
    for (const { name, address, daemons } of allNodes(plan)) {
      const namespace = namespaceOf(plan.id, name);
      const processes = await processesIn(namespace);
      const stateOf = (daemon: DaemonKind): DaemonState => {
        const process = processes.find((each) => each.daemon === daemon);
        if (process === undefined) return { name: daemon, state: 'stopped' };
        return { name: daemon, state: process.paused ? 'paused' : 'running', pid: process.pid };
      };
      const others = processes.filter(({ daemon }) => daemon === undefined).length;
      nodes.push({ name, address, namespace, daemons: daemons.map(stateOf), processes: others });
    }
    const { directory, credentials } = this;
    const sessions = await this.#bird.sessions(plan);
    return { id: plan.id, directory, endpoint: apiUrl(plan), credentials, nodes, faults: this.#faults, sessions };
  }

  #matches =
    ({ daemon }: Target) =>
    (process: LabProcess): boolean =>
      daemon === undefined || process.daemon === daemon;

  /** Kills a daemon, or all processes of a node with its VMs, as a power failure does. Returns the number of processes. */
  kill(target: Target): Promise<number> {
    return killIn(namespaceOf(this.plan.id, target.node.name), this.#matches(target));
  }

  /** Stops a daemon or all processes of a node by SIGSTOP. Their connections stay. Returns the number of processes. */
  async pause(target: Target): Promise<number> {
    const processes = (await processesIn(namespaceOf(this.plan.id, target.node.name))).filter(this.#matches(target));
    signal(processes, 'SIGSTOP');
    return processes.length;
  }

  /** Adds a fault of a link. */
  addFault(fault: LinkFault): Promise<void> {
    return this.#exclusively(() => this.#applyFaults(withFault(this.#faults, fault)));
  }

  /** Ends all faults of a node, or of all nodes: its links work, paused processes go on, and its daemons run. */
  heal(node?: LabNode): Promise<void> {
    return this.#exclusively(() => this.#heal(node));
  }

  async #heal(node: LabNode | undefined): Promise<void> {
    const { plan } = this;
    await this.#applyFaults(withoutNode(this.#faults, node?.name));
    for (const each of node === undefined ? allNodes(plan) : [node]) {
      signal(await processesIn(namespaceOf(plan.id, each.name)), 'SIGCONT');
      await this.#startMissing(undefined, each.name);
    }
  }

  async #applyFaults(faults: readonly LinkFault[]): Promise<void> {
    await runIn(namespaceOf(this.plan.id, spine), 'nft', ['-f', '-'], ruleset(faults));
    await writeJson(this.#path('faults.json'), faults);
  }

  /** Removes everything of the lab. May be repeated, also after a crash, and without a lab. Returns whether there was one. */
  down(): Promise<boolean> {
    return this.#exclusively(() => this.#down());
  }

  async #down(): Promise<boolean> {
    // A record of another lab or program must not lead to a removal.
    this.#options();
    const id = labId(this.directory);
    const hasNamespaces = (await namespacesOf(id)).length > 0;
    if (hasNamespaces) this.#tell('ending all processes and removing the network namespaces');
    await removeNamespaces(id);
    this.#bird.remove();
    if (this.#options() === undefined) return hasNamespaces;
    const nodes = this.#path('nodes');
    for (const node of existsSync(nodes) ? readdirSync(nodes) : []) {
      // The agent of a host has sockets outside of its directory, and so has its bird.
      const host = join(nodes, node, 'host');
      const instance = existsSync(host) ? instanceOf(host) : undefined;
      if (instance === undefined) continue;
      for (const path of [runDirectory(instance), birdDirectory(instance)])
        rmSync(path, { recursive: true, force: true });
    }
    // The command keeps the state of interrupted uploads beside the credentials.
    const parts = ['nodes', 'uploads', 'log', 'certificates', 'certificates.new', 'faults.json'];
    for (const name of readdirSync(this.directory)) {
      const isOurs =
        parts.includes(name) || /^(credentials\.json|state\.key)/.test(name) || /\.json\.\d+\.new$/.test(name);
      if (isOurs) rmSync(this.#path(name), { recursive: true, force: true });
    }
    // This record goes last, so that an interrupted removal can be repeated.
    rmSync(this.#path('lab.json'));
    if (readdirSync(this.directory).length === 0) rmdirSync(this.directory);
    return true;
  }
}
