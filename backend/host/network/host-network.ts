/**
 * The networks of this host on the machine: bridges, taps, packet filters, kernel settings, router advertisements.
 *
 * Level-triggered: what should be is (1) the networks declared last, kept in `networks.json`, and (2) the ports of VMs
 * that are to run, kept in the VMs' own directories and told by the driver before it calls `converge`. `converge` reads
 * what is there and applies the difference, so it may be stopped anywhere and run again, and repairs what others break.
 *
 * What is ours: interfaces by their alias. Between making an interface and giving it its alias a crash leaves one
 * without: it is known by its name, which was written down before. An interface with a name that we need and the alias
 * of somebody else is left alone and reported.
 *
 * Order: a tap joins its bridge only when its filter is in force, and leaves before its filter does.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { bridgeName, tapName } from '../../model/interface-names.ts';
import type { InterfaceSpec, NetworkSpec } from '../hypervisor/hypervisor.ts';
import { CommandError, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { idInAlias, interfaceAlias, runDirectory, tableName } from '../system/instance.ts';
import { Mutex } from '../system/mutex.ts';
import { ruleset } from './filter.ts';
import { bridgeOf, type DesiredLink, type ObservedLink, observeLinks, planLink, planRemoval } from './links.ts';
import { Radvd } from './radvd.ts';
import { radvdConfig } from './radvd-config.ts';
import { applySysctls, changedSysctls, restoreSysctls } from './sysctls.ts';

/** Interfaces of one VM, and the user whose process attaches to them. */
export interface Attachment {
  readonly uid: number;
  readonly interfaces: readonly InterfaceSpec[];
}

export interface HostNetworkOptions {
  /** For files. */
  readonly directory: string;
  readonly instance: string;
  readonly run: Run;
}

interface Desired {
  readonly networks: readonly NetworkSpec[];
  readonly links: readonly DesiredLink[];
}

export class HostNetwork {
  readonly #directory: string;
  readonly #instance: string;
  readonly #table: string;
  readonly #run: Run;
  readonly #radvd: Radvd;
  readonly #mutex = new Mutex();
  readonly #attachments = new Map<string, Attachment>();
  #declared: readonly NetworkSpec[] = [];
  #queued: Promise<ReadonlyMap<string, string>> | undefined;
  /** Rule set that was applied last, and how the kernel showed it then. */
  #filter: { readonly wanted: string; readonly shown: string } | undefined;

  private constructor({ directory, instance, run }: HostNetworkOptions) {
    this.#directory = directory;
    this.#instance = instance;
    this.#table = tableName(instance);
    this.#run = run;
    this.#radvd = new Radvd(directory, runDirectory(instance), run);
  }

  static async open(options: HostNetworkOptions): Promise<HostNetwork> {
    const network = new HostNetwork(options);
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const text = await readIfThere(network.#networksFile);
    if (text !== undefined) network.#declared = JSON.parse(text) as NetworkSpec[];
    return network;
  }

  get #networksFile(): string {
    return join(this.#directory, 'networks.json');
  }

  get #sysctlsFile(): string {
    return join(this.#directory, 'sysctls.json');
  }

  /** These networks and no others are on this host. Taps on others are unplugged. To be followed by `converge`. */
  declare(networks: readonly NetworkSpec[]): Promise<void> {
    return this.#mutex.run(() => this.#declare(networks));
  }

  /** Adds those that are missing. To be followed by `converge`. */
  require(networks: readonly NetworkSpec[]): Promise<void> {
    return this.#mutex.run(async () => {
      const missing = networks.filter(({ vni }) => !this.#declared.some((network) => network.vni === vni));
      if (missing.length > 0) await this.#declare([...this.#declared, ...missing]);
    });
  }

  async #declare(networks: readonly NetworkSpec[]): Promise<void> {
    await writeAtomically(this.#networksFile, JSON.stringify(networks));
    this.#declared = networks;
  }

  isDeclared({ vni }: NetworkSpec): boolean {
    return this.#declared.some((network) => network.vni === vni);
  }

  /** To be called before the VM's process starts, followed by `converge`. The VM's directory remembers it. */
  attach(vm: string, attachment: Attachment): void {
    this.#attachments.set(vm, attachment);
  }

  detach(vm: string): void {
    this.#attachments.delete(vm);
  }

  /** After a restart, when all VMs are attached again: marks what a crash left without its alias. */
  async adopt(): Promise<void> {
    const links = await observeLinks(this.#run);
    const aliases = new Map(this.#desired().links.map(({ name, alias }) => [name, alias]));
    const lines = this.#unmarked(links).map(({ name }) => `link set dev ${name} alias ${aliases.get(name)}`);
    if (lines.length > 0) await this.#batch(lines);
  }

  get isEmpty(): boolean {
    return this.#declared.length === 0 && this.#attachments.size === 0;
  }

  #desired(): Desired {
    const networks = new Map(this.#declared.map((network) => [network.vni, network]));
    const bridges = this.#declared.map((network) => bridgeOf(this.#instance, network));
    const taps = [...this.#attachments].flatMap(([vm, { uid, interfaces }]) =>
      interfaces.map(({ mac, network }): DesiredLink => {
        const declared = networks.get(network.vni);
        return {
          kind: 'tap',
          name: tapName(mac),
          alias: interfaceAlias(this.#instance, vm),
          bridge: declared && bridgeName(declared.vni),
          mtu: (declared ?? network).mtu,
          uid,
        };
      }),
    );
    return { networks: this.#declared, links: [...bridges, ...taps] };
  }

  /**
   * Makes the machine as it should be. Gives what could not be made so, by interface; calls that come while another is
   * under way share the next run.
   */
  converge(): Promise<ReadonlyMap<string, string>> {
    this.#queued ??= this.#mutex.run(() => {
      this.#queued = undefined;
      return this.#converge(this.#desired());
    });
    return this.#queued;
  }

  async #converge({ networks, links }: Desired): Promise<ReadonlyMap<string, string>> {
    await mkdir(runDirectory(this.#instance), { recursive: true, mode: 0o755 });
    const before = await observeLinks(this.#run);
    const faults = new Map<string, string>();
    const mine = links.filter((link) => {
      const alias = before.get(link.name)?.alias;
      const foreign = alias !== undefined && idInAlias(this.#instance, alias) === undefined;
      if (foreign) faults.set(link.name, `interface ${link.name} exists and belongs to "${alias}"`);
      return !foreign;
    });
    const names = new Set(mine.map((link) => link.name));
    for (const [link, fault] of await this.#remove(this.#owned(before).filter(({ name }) => !names.has(name)))) {
      faults.set(link, fault);
    }
    const bridges = mine.filter((link) => link.kind === 'bridge').map((link) => link.name);
    await this.#applyFilter(bridges);
    let unmade = await this.#apply(mine);
    if (mine.length > 0) {
      await applySysctls(this.#sysctlsFile, new Set(bridges));
      // Where IPv6 is off by default, addresses can be set only now.
      if (unmade.size > 0) unmade = await this.#apply(mine);
    }
    for (const [link, fault] of unmade) faults.set(link, fault);
    await this.#radvd.converge(radvdConfig(networks.filter(({ vni }) => bridges.includes(bridgeName(vni)))));
    return faults;
  }

  #owned(links: ReadonlyMap<string, ObservedLink>): ObservedLink[] {
    return [...links.values()].filter((link) => idInAlias(this.#instance, link.alias) !== undefined);
  }

  /** Gives what is still there. */
  async #remove(links: readonly ObservedLink[]): Promise<Map<string, string>> {
    if (links.length === 0) return new Map();
    // Taps before the bridges that they are ports of.
    const ordered = [...links].sort((a, b) => Number(b.kind === 'tun') - Number(a.kind === 'tun'));
    const said = await this.#batch(ordered.map((link) => planRemoval(link).line));
    if (said === '') return new Map();
    const left = await observeLinks(this.#run);
    return new Map(links.flatMap(({ name }) => (left.has(name) ? [[name, `cannot remove ${name}: ${said}`]] : [])));
  }

  /** Runs all lines, failed ones included, and gives what was said of those. */
  async #batch(lines: readonly string[]): Promise<string> {
    try {
      await this.#run('ip', ['-force', '-batch', '-'], lines.map((line) => `${line}\n`).join(''));
      return '';
    } catch (error) {
      if (error instanceof CommandError) return error.stderr;
      throw error;
    }
  }

  async #apply(links: readonly DesiredLink[]): Promise<Map<string, string>> {
    let said = '';
    for (let attempt = 1; ; attempt++) {
      const observed = await observeLinks(this.#run);
      const plan = links.flatMap((link) => planLink(link, observed.get(link.name)));
      if (plan.length === 0) return new Map();
      if (attempt > 3) return new Map(plan.map(({ link, line }) => [link, `ip ${line}: ${said.trim().slice(-500)}`]));
      said = await this.#batch(plan.map(({ line }) => line));
    }
  }

  async #list(family: 'bridge' | 'inet'): Promise<string> {
    try {
      return await this.#run('nft', ['-s', 'list', 'table', family, this.#table]);
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return '';
      throw error;
    }
  }

  async #applyFilter(bridges: readonly string[]): Promise<void> {
    const present = await this.#list('bridge');
    const shown = `${present}${await this.#list('inet')}`;
    if (this.isEmpty) {
      if (shown !== '') await this.#removeFilter();
      return;
    }
    const ports = [...this.#attachments.values()].flatMap(({ interfaces }) =>
      interfaces.map(({ mac, address }) => ({ tap: tapName(mac), mac, address })),
    );
    const wanted = JSON.stringify([ports, bridges]);
    if (this.#filter?.wanted === wanted && this.#filter.shown === shown) return;
    await this.#run('nft', ['-f', '-'], ruleset(this.#table, ports, bridges, present));
    this.#filter = { wanted, shown: `${await this.#list('bridge')}${await this.#list('inet')}` };
  }

  async #removeFilter(): Promise<void> {
    // Adding first makes the deletion right whether they exist or not.
    const lines = ['bridge', 'inet'].map((f) => `add table ${f} ${this.#table}\ndelete table ${f} ${this.#table}\n`);
    await this.#run('nft', ['-f', '-'], lines.join(''));
    this.#filter = undefined;
  }

  /** VMs that an interface on this machine was made for. */
  async attachedVms(): Promise<string[]> {
    const links = this.#owned(await observeLinks(this.#run)).filter((link) => link.kind === 'tun');
    return [...new Set(links.map((link) => idInAlias(this.#instance, link.alias) ?? ''))];
  }

  /** Everything here that this instance has made, for people. */
  async inventory(): Promise<string[]> {
    const tables = await Promise.all(
      (['bridge', 'inet'] as const).map(async (family) =>
        (await this.#list(family)) === '' ? [] : [`nftables table ${family} ${this.#table}`],
      ),
    );
    const links = await observeLinks(this.#run);
    return [
      ...(await this.#radvd.find()).map(({ pid }) => `process ${pid} (radvd)`),
      ...[...this.#owned(links), ...this.#unmarked(links)].map((link) => `interface ${link.name}`),
      ...tables.flat(),
      ...(await changedSysctls(this.#sysctlsFile)).map((path) => `kernel setting ${path}`),
    ];
  }

  /** Made just before a crash: named in what should be, but without the alias yet. */
  #unmarked(links: ReadonlyMap<string, ObservedLink>): ObservedLink[] {
    return this.#desired().links.flatMap(({ name, kind }) => {
      const link = links.get(name);
      return link && link.alias === undefined && link.kind === (kind === 'tap' ? 'tun' : 'bridge') ? [link] : [];
    });
  }

  /** Removes all of it. Attachments of VMs that still run must be gone before. */
  async clean(): Promise<void> {
    await this.#mutex.run(async () => {
      await this.#radvd.converge('');
      const links = await observeLinks(this.#run);
      const left = await this.#remove([...this.#owned(links), ...this.#unmarked(links)]);
      if (left.size > 0) throw new Error([...left.values()].join('; '));
      await this.#removeFilter();
      await restoreSysctls(this.#sysctlsFile);
      await rm(this.#directory, { recursive: true, force: true });
      this.#declared = [];
      this.#attachments.clear();
    });
  }
}
