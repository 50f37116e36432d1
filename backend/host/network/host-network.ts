/**
 * The networks of this host on the machine: bridges, taps, packet filters, kernel settings, router advertisements.
 *
 * Level-triggered. The desired state has two parts: the declared networks, stored in `networks.json`, and the
 * interfaces of running VMs, stored in the directories of the VMs. The driver attaches the interfaces before it calls
 * `converge`. `converge` observes the machine and applies the difference. It may stop at any point and run again, and
 * it repairs changes by other programs.
 *
 * The alias of an interface names its instance. A crash may leave a new interface without alias. Its name identifies it
 * then, because the desired state was stored before. If an interface has a needed name and the alias of another owner,
 * `converge` leaves it alone and reports a fault.
 *
 * Order: `converge` opens an interface only after its kernel settings and its filter are in force. It removes an
 * interface before its filter.
 */

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../../contract/fields.ts';
import { formatIpv6, linkLocalAddress } from '../../model/network/addresses.ts';
import { bridgeName, isTapName, tapOf } from '../../model/network/interface-names.ts';
import type { InterfaceSpec, NetworkSpec } from '../hypervisor/specs.ts';
import { CommandError, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { idInAlias, interfaceAlias, isUcloudAlias, runDirectory, tableName } from '../system/instance.ts';
import { Mutex } from '../system/mutex.ts';
import {
  bridgeOf,
  type DesiredLink,
  type LinkCommand,
  type ObservedLink,
  type ObservedLinks,
  observeLinks,
  planCreation,
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

/** Options of `HostNetwork.open`. */
export interface HostNetworkOptions {
  /** The directory for the files of this class. */
  readonly directory: string;
  readonly instance: string;
  readonly run: Run;
}

/** Observes and changes one part of the machine. */
interface Reconciler<T, C extends LinkCommand = LinkCommand> {
  read(): Promise<T>;
  /** Returns the commands for the difference; none if the part is in its desired state. */
  plan(observed: T): readonly C[];
  /** Runs the commands, and returns the error output of those that failed. */
  change(commands: readonly C[]): Promise<string>;
}

const withoutCounts = (listing: string): string => listing.replace(/\bpackets \d+ bytes \d+/g, 'packets 0 bytes 0');

/** Returns the counters for source addresses in the listing of a table, by tap. */
const sourceDropsIn = (listing: string): ReadonlyMap<string, number> =>
  new Map(
    [...listing.matchAll(/^\s*counter (\w+)_source \{\s*packets (\d+) /gm)].map(([, tap = '', packets]) => [
      tap,
      Number(packets),
    ]),
  );

/** Establishes the networks of one instance on the machine. */
export class HostNetwork {
  readonly #directory: string;
  readonly #instance: string;
  readonly #table: string;
  readonly #run: Run;
  readonly #radvd: Radvd;
  readonly #mutex = new Mutex();
  /** The interfaces of running VMs, by VM. */
  readonly #attachments = new Map<string, readonly InterfaceSpec[]>();
  #declared: readonly NetworkSpec[] = [];
  #queued: Promise<ReadonlyMap<string, string>> | undefined;
  /** The rule set that was applied last, and its listing by the kernel at that time, without counts. */
  #filter: { readonly wanted: string; readonly listing: string } | undefined;
  /** The numbers of frames that the filter dropped because of their source address, by tap. */
  #sourceDrops: ReadonlyMap<string, number> = new Map();

  private constructor({ directory, instance, run }: HostNetworkOptions) {
    this.#directory = directory;
    this.#instance = instance;
    this.#table = tableName(instance);
    this.#run = run;
    this.#radvd = new Radvd(directory, runDirectory(instance), run);
  }

  /** Opens the directory, with the networks that were declared before. Changes no interface. */
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

  /**
   * Declares the networks of this host. The next `converge` removes all others and unplugs their taps. Resolves after
   * the declaration is stored.
   */
  declare(networks: readonly NetworkSpec[]): Promise<void> {
    return this.#mutex.run(() => this.#declare(networks));
  }

  /** Adds missing networks to the declaration. The next `converge` creates them. */
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

  /** Tells whether the network is declared. */
  isDeclared({ vni }: NetworkSpec): boolean {
    return this.#declared.some((network) => network.vni === vni);
  }

  /**
   * Declares the interfaces of a VM, before its process starts. The next `converge` creates them. Only the VM's
   * directory stores them.
   */
  attach(vm: string, interfaces: readonly InterfaceSpec[]): void {
    this.#attachments.set(vm, interfaces);
  }

  /** Removes the interfaces of a VM from the desired state. The next `converge` removes them from the machine. */
  detach(vm: string): void {
    this.#attachments.delete(vm);
  }

  /** Adds missing aliases that a crash has left. Runs after a restart, when all VMs are attached again. */
  async adopt(): Promise<void> {
    const links = await observeLinks(this.#run);
    const aliases = new Map(this.#desired().map(({ name, alias }) => [name, alias]));
    const lines = this.#unmarked(links).map(({ name }) => `link set dev ${name} alias ${aliases.get(name)}`);
    if (lines.length > 0) await this.#batch(lines);
  }

  /** True if no network is declared and no VM is attached. */
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
   * Brings the machine to the desired state. Returns the faults by interface name. All calls during a run share the
   * next run.
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
    const withoutFault = () => links.filter(({ name }) => !faults.has(name));
    const addFaults = (more: ReadonlyMap<string, string>) => {
      for (const [link, fault] of more) faults.set(link, fault);
    };
    const before = await observeLinks(this.#run);
    for (const { name } of links) {
      const alias = before.get(name)?.alias;
      if (alias !== undefined && idInAlias(this.#instance, alias) === undefined) {
        faults.set(name, `interface ${name} exists and belongs to "${alias}"`);
      }
    }
    const names = new Set(withoutFault().map(({ name }) => name));
    const surplusLinks = this.#owned(before).filter(({ name }) => !names.has(name));
    addFaults(await this.#remove(surplusLinks));

    const created = await this.#apply(withoutFault(), planCreation, surplusLinks.length > 0 ? undefined : before);
    addFaults(created.faults);
    if (links.length > 0) await applySysctls(this.#sysctlsFile, created.observed, names);
    // Interfaces with another fault get their settings too, because they may still be open.
    for (const link of links.filter(({ name }) => names.has(name) && created.observed.has(name))) {
      const fault = await applyLinkSysctls(link);
      if (fault !== undefined) faults.set(link.name, fault);
    }
    await this.#applyFilter(new Set(this.#owned(created.observed).map(({ name }) => name)));
    // An interface shows its addresses only after its kernel settings have turned on IPv6.
    const opened = await this.#apply(withoutFault(), planOpening, created.observed);
    addFaults(opened.faults);

    const available = new Set(withoutFault().map(({ name }) => name));
    const served = networks.filter(({ vni }) => available.has(bridgeName(vni)));
    addFaults(await this.#applyPaths(served, available, opened.observed));
    await this.#radvd.converge(radvdConfig(served));
    return faults;
  }

  #owned(links: ReadonlyMap<string, ObservedLink>): ObservedLink[] {
    return [...links.values()].filter((link) => idInAlias(this.#instance, link.alias) !== undefined);
  }

  /** Removes the interfaces. Returns the faults of those that still exist. */
  async #remove(links: readonly ObservedLink[]): Promise<Map<string, string>> {
    if (links.length === 0) return new Map();
    // Taps go before their bridges.
    const ordered = [...links].sort((a, b) => Number(b.kind === 'tun') - Number(a.kind === 'tun'));
    const errorOutput = await this.#batch(ordered.map((link) => planRemoval(link).line));
    if (errorOutput === '') return new Map();
    const remaining = await observeLinks(this.#run);
    return new Map(
      links.flatMap(({ name }) => (remaining.has(name) ? [[name, `cannot remove ${name}: ${errorOutput}`]] : [])),
    );
  }

  /** Runs all lines, also after a failure. Returns the error output of the failed lines. */
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

  /**
   * Observes, compares and changes until no difference is left, at most three times. Returns the faults by interface,
   * and the last observation.
   */
  async #reconcile<T, C extends LinkCommand>(
    { read, plan, change }: Reconciler<T, C>,
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

  /** @param first the current state of the links, if it is known */
  #apply(
    links: readonly DesiredLink[],
    planOf: (link: DesiredLink, observed: ObservedLink | undefined) => LinkCommand[],
    first?: ObservedLinks,
  ): Promise<{ faults: Map<string, string>; observed: ObservedLinks }> {
    return this.#reconcile(
      {
        read: () => observeLinks(this.#run),
        plan: (observed) => links.flatMap((link) => planOf(link, observed.get(link.name))),
        change: (commands) => this.#batch(commands.map(({ line }) => line)),
      },
      first,
    );
  }

  /**
   * @param networks the networks whose bridges have no fault
   * @param available the names of the instance's interfaces without fault
   * @param observed all interfaces of the machine
   */
  async #applyPaths(
    networks: readonly NetworkSpec[],
    available: ReadonlySet<string>,
    observed: ObservedLinks,
  ): Promise<Map<string, string>> {
    const bridges = networks.map(({ vni, cidr }) => ({ bridge: bridgeName(vni), cidr }));
    const ports = this.#ports(available).flatMap(({ network, tap, mac, address }) => {
      const bridge = bridgeName(network.vni);
      const addresses = [address, formatIpv6(linkLocalAddress(mac))];
      return available.has(bridge) ? [{ tap, bridge, mac, addresses }] : [];
    });
    const foreign = [...observed.values()]
      .filter(({ alias }) => isUcloudAlias(alias) && idInAlias(this.#instance, alias) === undefined)
      .flatMap(({ addresses }) => addresses.map(({ cidr }) => cidr));
    const desired: DesiredPaths = {
      ports,
      networks: bridges,
      isForeign: (prefix) => foreign.includes(`${routerAddress(prefix)}/64`),
    };
    const { faults } = await this.#reconcile({
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

  /** Returns the interfaces of VMs that have one of these taps. */
  #ports(taps: ReadonlySet<string>): (Port & { network: NetworkSpec })[] {
    return [...this.#attachments.values()].flatMap((interfaces) =>
      interfaces.flatMap((each) => {
        const tap = tapOf(each);
        const { mac, address, network } = each;
        return taps.has(tap) ? [{ tap, mac, address, network }] : [];
      }),
    );
  }

  /** Returns the listing of the table, without the elements that packets add; empty if there is no table. */
  async #listTable(family: Family): Promise<string> {
    try {
      const listing = await this.#run('nft', ['-t', 'list', 'table', family, this.#table]);
      // Each run of `converge` lists the table, so the counts need no command of their own.
      if (family === 'netdev') this.#sourceDrops = sourceDropsIn(listing);
      return withoutCounts(listing);
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return '';
      throw error;
    }
  }

  /** @param existing the names of all existing interfaces of the instance. A surplus interface may send nothing. */
  async #applyFilter(existing: ReadonlySet<string>): Promise<void> {
    const present = await this.#listTable('netdev');
    const showAll = async (netdev: string) => `${netdev}${await this.#listTable('inet')}`;
    const listing = await showAll(present);
    if (this.isEmpty && existing.size === 0) {
      if (listing !== '') await this.#removeFilter();
      return;
    }
    const ports = this.#ports(existing);
    const known = new Set(ports.map(({ tap }) => tap));
    const taps = [...existing].filter((name) => isTapName(name));
    const rules = {
      ports,
      closed: taps.filter((tap) => !known.has(tap)),
      taps,
      bridges: [...existing].filter((name) => !isTapName(name)),
      addresses: ports.map(({ address }) => address),
    };
    const wanted = JSON.stringify(rules);
    if (this.#filter?.wanted === wanted && this.#filter.listing === listing) return;
    await this.#run('nft', ['-f', '-'], ruleset(this.#table, rules, present));
    this.#filter = { wanted, listing: await showAll(await this.#listTable('netdev')) };
  }

  async #removeFilter(): Promise<void> {
    const lines = families.flatMap((family) => removeTable(family, this.#table));
    await this.#run('nft', ['-f', '-'], `${lines.join('\n')}\n`);
    this.#filter = undefined;
  }

  /**
   * Returns the numbers of frames that the filter dropped because of their source address, by VM, at the last run of
   * `converge`.
   */
  sourceDrops(): ReadonlyMap<string, number> {
    return new Map(
      [...this.#attachments].map(([vm, interfaces]) => [
        vm,
        interfaces.reduce((total, each) => total + (this.#sourceDrops.get(tapOf(each)) ?? 0), 0),
      ]),
    );
  }

  /** Returns the VMs that have a tap on this machine. */
  async attachedVms(): Promise<Id<'vm'>[]> {
    const links = this.#owned(await observeLinks(this.#run)).filter((link) => link.kind === 'tun');
    // Only VMs have taps.
    return [...new Set(links.flatMap((link) => (idInAlias(this.#instance, link.alias) as Id<'vm'> | undefined) ?? []))];
  }

  /** Returns one readable line for each thing on the machine that this instance has created. */
  async inventory(): Promise<string[]> {
    const tables = await Promise.all(
      families.map(async (family) =>
        (await this.#listTable(family)) === '' ? [] : [`nftables table ${family} ${this.#table}`],
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

  /** Returns the desired interfaces that exist without an alias, because of a crash. */
  #unmarked(links: ReadonlyMap<string, ObservedLink>): ObservedLink[] {
    return this.#desired().flatMap(({ name, kind }) => {
      const link = links.get(name);
      return link && link.alias === undefined && link.kind === (kind === 'tap' ? 'tun' : 'bridge') ? [link] : [];
    });
  }

  /**
   * Removes everything that this instance has created, and restores kernel settings. All VMs must be detached before.
   * @throws Error if an interface cannot be removed
   */
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
