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
 * Order: an interface is made, and is opened only when its kernel settings and its filter are in force; it goes before its
 * filter does.
 */

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../../contract/fields.ts';
import { formatIpv6, linkLocalAddress } from '../../model/network/addresses.ts';
import { bridgeName, isTapName, tapOf } from '../../model/network/interface-names.ts';
import type { InterfaceSpec, NetworkSpec } from '../hypervisor/specs.ts';
import { CommandError, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { idInAlias, interfaceAlias, isAnyInstances, runDirectory, tableName } from '../system/instance.ts';
import { Mutex } from '../system/mutex.ts';
import {
  bridgeOf,
  type DesiredLink,
  type LinkCommand,
  type ObservedLink,
  type ObservedLinks,
  observeLinks,
  planMaking,
  planOpening,
  planRemoval,
  routerAddress,
} from './links.ts';
import { type DesiredPaths, observePaths, type PathCommand, planPaths } from './paths.ts';
import { Radvd } from './radvd.ts';
import { radvdConfig } from './radvd-config.ts';
import { type Family, families, removeTable, ruleset } from './ruleset.ts';
import { applyLinkSysctls, applySysctls, changedSysctls, restoreSysctls } from './sysctls.ts';
import type { Port } from './tap-filter.ts';

export interface HostNetworkOptions {
  /** For files. */
  readonly directory: string;
  readonly instance: string;
  readonly run: Run;
}

/** One kind of thing on the machine that is to become what it should be. */
interface Settling<T, C extends LinkCommand = LinkCommand> {
  read(): Promise<T>;
  plan(observed: T): readonly C[];
  /** Gives what was said of commands that failed. */
  change(commands: readonly C[]): Promise<string>;
}

export class HostNetwork {
  readonly #directory: string;
  readonly #instance: string;
  readonly #table: string;
  readonly #run: Run;
  readonly #radvd: Radvd;
  readonly #mutex = new Mutex();
  /** Interfaces by VM. */
  readonly #attachments = new Map<string, readonly InterfaceSpec[]>();
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
  attach(vm: string, interfaces: readonly InterfaceSpec[]): void {
    this.#attachments.set(vm, interfaces);
  }

  detach(vm: string): void {
    this.#attachments.delete(vm);
  }

  /** After a restart, when all VMs are attached again: marks what a crash left without its alias. */
  async adopt(): Promise<void> {
    const links = await observeLinks(this.#run);
    const aliases = new Map(this.#desired().map(({ name, alias }) => [name, alias]));
    const lines = this.#unmarked(links).map(({ name }) => `link set dev ${name} alias ${aliases.get(name)}`);
    if (lines.length > 0) await this.#batch(lines);
  }

  get isEmpty(): boolean {
    return this.#declared.length === 0 && this.#attachments.size === 0;
  }

  #desired(): DesiredLink[] {
    const networks = new Map(this.#declared.map((network) => [network.vni, network]));
    const bridges = this.#declared.map((network) => bridgeOf(this.#instance, network));
    const taps = [...this.#attachments].flatMap(([vm, interfaces]) =>
      interfaces.map(({ network, ...each }): DesiredLink => {
        const declared = networks.get(network.vni);
        return {
          kind: 'tap',
          name: tapOf(each),
          alias: interfaceAlias(this.#instance, vm),
          bridge: declared && bridgeName(declared.vni),
          mtu: (declared ?? network).mtu,
        };
      }),
    );
    return [...bridges, ...taps];
  }

  /**
   * Makes the machine as it should be. Gives what could not be made so, by interface; calls that come while another is
   * under way share the next run.
   */
  converge(): Promise<ReadonlyMap<string, string>> {
    this.#queued ??= this.#mutex.run(() => {
      this.#queued = undefined;
      return this.#converge(this.#declared, this.#desired());
    });
    return this.#queued;
  }

  async #converge(
    networks: readonly NetworkSpec[],
    links: readonly DesiredLink[],
  ): Promise<ReadonlyMap<string, string>> {
    await mkdir(runDirectory(this.#instance), { recursive: true, mode: 0o755 });
    const faults = new Map<string, string>();
    const right = () => links.filter(({ name }) => !faults.has(name));
    const note = (more: ReadonlyMap<string, string>) => {
      for (const [link, fault] of more) faults.set(link, fault);
    };
    const before = await observeLinks(this.#run);
    for (const { name } of links) {
      const alias = before.get(name)?.alias;
      if (alias !== undefined && idInAlias(this.#instance, alias) === undefined) {
        faults.set(name, `interface ${name} exists and belongs to "${alias}"`);
      }
    }
    const names = new Set(right().map(({ name }) => name));
    const surplus = this.#owned(before).filter(({ name }) => !names.has(name));
    note(await this.#remove(surplus));

    const made = await this.#apply(right(), planMaking, surplus.length > 0 ? undefined : before);
    note(made.faults);
    if (links.length > 0) await applySysctls(this.#sysctlsFile, made.observed, names);
    // Also for those that are not right in some other way: they may be open from before.
    for (const link of links.filter(({ name }) => names.has(name) && made.observed.has(name))) {
      const fault = await applyLinkSysctls(link);
      if (fault !== undefined) faults.set(link.name, fault);
    }
    await this.#applyFilter(new Set(this.#owned(made.observed).map(({ name }) => name)));
    // Where the kernel was told to do without IPv6, there are addresses to be seen only now.
    const opened = await this.#apply(right(), planOpening, made.observed);
    note(opened.faults);

    const there = new Set(right().map(({ name }) => name));
    const served = networks.filter(({ vni }) => there.has(bridgeName(vni)));
    note(await this.#applyPaths(served, there, opened.observed));
    await this.#radvd.converge(radvdConfig(served));
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
  async #batch(lines: readonly string[], program = 'ip', ...options: string[]): Promise<string> {
    if (lines.length === 0) return '';
    try {
      await this.#run(program, [...options, '-force', '-batch', '-'], lines.map((line) => `${line}\n`).join(''));
      return '';
    } catch (error) {
      if (error instanceof CommandError) return error.stderr;
      throw error;
    }
  }

  /** Reads, compares and changes until nothing differs. Gives what still does, by interface, and what was read last. */
  async #settle<T, C extends LinkCommand>(
    { read, plan, change }: Settling<T, C>,
    first?: T,
  ): Promise<{ faults: Map<string, string>; observed: T }> {
    let said = '';
    for (let attempt = 1; ; attempt++) {
      const observed = attempt === 1 && first !== undefined ? first : await read();
      const commands = plan(observed);
      if (commands.length === 0) return { faults: new Map(), observed };
      if (attempt > 3) {
        const faults = new Map(commands.map(({ link, line }) => [link, `${line}: ${said.trim().slice(-500)}`]));
        return { faults, observed };
      }
      said = await change(commands);
    }
  }

  /** `first` is how the links are now, if that is known. */
  #apply(
    links: readonly DesiredLink[],
    planOf: (link: DesiredLink, observed: ObservedLink | undefined) => LinkCommand[],
    first?: ObservedLinks,
  ): Promise<{ faults: Map<string, string>; observed: ObservedLinks }> {
    return this.#settle(
      {
        read: () => observeLinks(this.#run),
        plan: (observed) => links.flatMap((link) => planOf(link, observed.get(link.name))),
        change: (commands) => this.#batch(commands.map(({ line }) => line)),
      },
      first,
    );
  }

  /** `there` are interfaces of ours that are as they should be, of all that were observed. */
  async #applyPaths(
    networks: readonly NetworkSpec[],
    there: ReadonlySet<string>,
    observed: ObservedLinks,
  ): Promise<Map<string, string>> {
    const bridges = networks.map(({ vni, cidr }) => ({ bridge: bridgeName(vni), cidr }));
    const ports = this.#ports(there).flatMap(({ network, tap, mac, address }) => {
      const bridge = bridgeName(network.vni);
      const addresses = [address, formatIpv6(linkLocalAddress(mac))];
      return there.has(bridge) ? [{ tap, bridge, mac, addresses }] : [];
    });
    const foreign = [...observed.values()]
      .filter(({ alias }) => isAnyInstances(alias) && idInAlias(this.#instance, alias) === undefined)
      .flatMap(({ addresses }) => addresses.map(({ cidr }) => cidr));
    const desired: DesiredPaths = {
      ports,
      networks: bridges,
      isForeign: (prefix) => foreign.includes(`${routerAddress(prefix)}/64`),
    };
    const { faults } = await this.#settle({
      read: () =>
        observePaths(
          this.#run,
          bridges.map(({ bridge }) => bridge),
        ),
      plan: (paths) => planPaths(desired, paths),
      change: async (commands) => {
        const of = (wanted: PathCommand['program']) =>
          commands.filter(({ program }) => program === wanted).map(({ line }) => line);
        return `${await this.#batch(of('bridge'), 'bridge')}${await this.#batch(of('ip'), 'ip', '-6')}`;
      },
    });
    return faults;
  }

  /** Interfaces of VMs whose taps are among these. */
  #ports(taps: ReadonlySet<string>): (Port & { network: NetworkSpec })[] {
    return [...this.#attachments.values()].flatMap((interfaces) =>
      interfaces.flatMap((each) => {
        const tap = tapOf(each);
        const { mac, address, network } = each;
        return taps.has(tap) ? [{ tap, mac, address, network }] : [];
      }),
    );
  }

  /** As nft prints it, without what packets write into it; empty if it is not there. */
  async #list(family: Family): Promise<string> {
    try {
      return await this.#run('nft', ['-s', '-t', 'list', 'table', family, this.#table]);
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return '';
      throw error;
    }
  }

  /** `there` are all interfaces of ours, also those that should have gone: they may send nothing. */
  async #applyFilter(there: ReadonlySet<string>): Promise<void> {
    const present = await this.#list('netdev');
    const showAll = async (netdev: string) =>
      [netdev, ...(await Promise.all([this.#list('inet'), this.#list('bridge')]))].join('');
    const shown = await showAll(present);
    if (this.isEmpty && there.size === 0) {
      if (shown !== '') await this.#removeFilter();
      return;
    }
    const ports = this.#ports(there);
    const known = new Set(ports.map(({ tap }) => tap));
    const taps = [...there].filter((name) => isTapName(name));
    const rules = {
      ports,
      closed: taps.filter((tap) => !known.has(tap)),
      taps,
      bridges: [...there].filter((name) => !isTapName(name)),
      addresses: ports.map(({ address }) => address),
    };
    const wanted = JSON.stringify(rules);
    if (this.#filter?.wanted === wanted && this.#filter.shown === shown) return;
    await this.#run('nft', ['-f', '-'], ruleset(this.#table, rules, present));
    this.#filter = { wanted, shown: await showAll(await this.#list('netdev')) };
  }

  async #removeFilter(): Promise<void> {
    const lines = families.flatMap((family) => removeTable(family, this.#table));
    await this.#run('nft', ['-f', '-'], `${lines.join('\n')}\n`);
    this.#filter = undefined;
  }

  /** VMs that an interface on this machine was made for. */
  async attachedVms(): Promise<Id<'vm'>[]> {
    const links = this.#owned(await observeLinks(this.#run)).filter((link) => link.kind === 'tun');
    // Only VMs have taps.
    return [...new Set(links.flatMap((link) => (idInAlias(this.#instance, link.alias) as Id<'vm'> | undefined) ?? []))];
  }

  /** Everything here that this instance has made, for people. */
  async inventory(): Promise<string[]> {
    const tables = await Promise.all(
      families.map(async (family) =>
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
    return this.#desired().flatMap(({ name, kind }) => {
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
      await this.#applyPaths([], new Set(), links);
      await restoreSysctls(this.#sysctlsFile, links);
      await rm(this.#directory, { recursive: true, force: true });
      this.#declared = [];
      this.#attachments.clear();
    });
  }
}
