/**
 * The networks of this host on the machine: bridges, taps, tunnels, packet filters, kernel settings, router advertisements.
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
import { transitName, vxlanName } from '../../model/network/fabric.ts';
import { bridgeName, gatewayMac, isBridgeName, isTapName, tapOf } from '../../model/network/interface-names.ts';
import type { FabricSpec, InterfaceSpec, NetworkSpec, RoutedPrefix, SecuritySpec } from '../hypervisor/specs.ts';
import { CommandError, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { idInAlias, interfaceAlias, isUcloudAlias, runDirectory, tableName } from '../system/instance.ts';
import { Mutex } from '../system/mutex.ts';
import { FilterTable } from './filter-table.ts';
import { GroupTable } from './group-table.ts';
import { InterfaceGroups } from './interface-groups.ts';
import {
  bridgeOf,
  type DesiredLink,
  type LinkCommand,
  linkKinds,
  linkMtu,
  type ObservedLink,
  type ObservedLinks,
  observeLinks,
  planCreation,
  planOpening,
  planRemoval,
  routerAddress,
  transitOf,
  vxlanOf,
} from './links.ts';
import { type DesiredPaths, localPaths, observePaths, type PathCommand, planPaths, remotePaths } from './paths.ts';
import { Radvd } from './radvd.ts';
import { radvdConfig } from './radvd-config.ts';
import { applyLinkSysctls, applySysctls, changedSysctls, hasBridgeFilter, restoreSysctls } from './sysctls.ts';
import type { Port } from './tap-filter.ts';

/** Options of `HostNetwork.open`. */
export interface HostNetworkOptions {
  /** The directory for the files of this class. */
  readonly directory: string;
  readonly instance: string;
  readonly run: Run;
}

/** The file `networks.json`. */
interface Declaration {
  readonly networks: readonly NetworkSpec[];
  readonly fabric?: FabricSpec;
  /** Earlier versions stored none. */
  readonly routes?: readonly RoutedPrefix[];
  /** Earlier versions stored none. */
  readonly security?: SecuritySpec;
}

/** Observes and changes one part of the machine. */
interface Reconciler<T, C extends LinkCommand = LinkCommand> {
  read(): Promise<T>;
  /** Returns the commands for the difference; none if the part is in its desired state. */
  plan(observed: T): readonly C[];
  /** Runs the commands, and returns the error output of those that failed. */
  change(commands: readonly C[]): Promise<string>;
}

/** Establishes the networks of one instance on the machine. */
export class HostNetwork {
  readonly #directory: string;
  readonly #instance: string;
  readonly #filter: FilterTable;
  readonly #groups: GroupTable;
  readonly #run: Run;
  readonly #radvd: Radvd;
  readonly #mutex = new Mutex();
  /** The interfaces of running VMs, by VM. */
  readonly #attachments = new Map<string, readonly InterfaceSpec[]>();
  #declared: readonly NetworkSpec[] = [];
  #queued: Promise<ReadonlyMap<string, string>> | undefined;
  /** The other hosts. Undefined: networks end at this host. */
  #fabric: FabricSpec | undefined;
  /** The prefixes that are routed to VMs of this host. */
  #routes: readonly RoutedPrefix[] = [];
  #groupsOf = new InterfaceGroups(undefined);
  /** Frames between guests of a bridge can pass the filters of security groups, or no interface needs that. */
  #bridgesAreFiltered = true;

  private constructor({ directory, instance, run }: HostNetworkOptions) {
    this.#directory = directory;
    this.#instance = instance;
    this.#filter = new FilterTable(tableName(instance), run);
    this.#groups = new GroupTable(tableName(instance), join(directory, 'groups.json'), run);
    this.#run = run;
    this.#radvd = new Radvd(directory, runDirectory(instance), run);
  }

  /** Opens the directory, with the networks that were declared before. Changes no interface. */
  static async open(options: HostNetworkOptions): Promise<HostNetwork> {
    const network = new HostNetwork(options);
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const text = await readIfThere(network.#networksFile);
    const stored = text === undefined ? undefined : (JSON.parse(text) as Declaration | NetworkSpec[]);
    // Earlier versions stored the networks alone.
    if (Array.isArray(stored)) network.#declared = stored;
    else if (stored) {
      network.#declared = stored.networks;
      network.#fabric = stored.fabric;
      network.#routes = stored.routes ?? [];
      network.#groupsOf = new InterfaceGroups(stored.security);
    }
    return network;
  }

  get #networksFile(): string {
    return join(this.#directory, 'networks.json');
  }

  get #sysctlsFile(): string {
    return join(this.#directory, 'sysctls.json');
  }

  /**
   * Declares the networks of this host, the other hosts, the prefixes that are routed to VMs of this host, and the filters of
   * their interfaces. The next `converge` removes all others and unplugs their taps. Resolves after the declaration is stored.
   */
  declare(
    networks: readonly NetworkSpec[],
    fabric?: FabricSpec,
    routes: readonly RoutedPrefix[] = [],
    security?: SecuritySpec,
  ): Promise<void> {
    return this.#mutex.run(() => this.#declare(networks, fabric, routes, security));
  }

  /** Adds missing networks to the declaration. The next `converge` creates them. */
  require(networks: readonly NetworkSpec[]): Promise<void> {
    return this.#mutex.run(async () => {
      const missing = networks.filter(({ vni }) => !this.#declared.some((network) => network.vni === vni));
      if (missing.length > 0) {
        await this.#declare([...this.#declared, ...missing], this.#fabric, this.#routes, this.#groupsOf.spec);
      }
    });
  }

  async #declare(
    networks: readonly NetworkSpec[],
    fabric: FabricSpec | undefined,
    routes: readonly RoutedPrefix[],
    security: SecuritySpec | undefined,
  ): Promise<void> {
    const declaration: Declaration = { networks, ...(fabric && { fabric }), routes, ...(security && { security }) };
    await writeAtomically(this.#networksFile, JSON.stringify(declaration));
    this.#declared = networks;
    this.#fabric = fabric;
    this.#routes = routes;
    this.#groupsOf = new InterfaceGroups(security);
  }

  /** Tells whether the network is declared. */
  isDeclared({ vni }: NetworkSpec): boolean {
    return this.#declared.some((network) => network.vni === vni);
  }

  /**
   * Declares the interfaces of a VM, before its process starts or gets them. The next `converge` creates them, and cuts off
   * those that are to go. Only the VM's directory stores them.
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

  /** True if no network and no other host is declared, and no VM is attached. */
  get isEmpty(): boolean {
    return this.#declared.length === 0 && this.#attachments.size === 0 && this.#fabric === undefined;
  }

  #desired(): DesiredLink[] {
    const networks = new Map(this.#declared.map((network) => [network.vni, network]));
    const filtered = this.#filteredNetworks();
    const bridges = this.#declared.map((network) =>
      bridgeOf(this.#instance, network, filtered.has(network.vni) && this.#bridgesAreFiltered),
    );
    const taps = [...this.#attachments].flatMap(([vm, interfaces]) =>
      interfaces.map(({ network, ...each }): DesiredLink => {
        const declared = each.leaving ? undefined : networks.get(network.vni);
        const isOpen = declared !== undefined && this.#groupsOf.mayOpen({ ...each, network }, this.#bridgesAreFiltered);
        return {
          kind: 'tap',
          name: tapOf(each),
          alias: interfaceAlias(this.#instance, vm),
          bridge: isOpen ? bridgeName(declared.vni) : undefined,
          mtu: linkMtu(declared ?? network),
          isolated: (declared ?? network).kind === 'routed',
        };
      }),
    );
    const fabric = this.#fabric;
    if (fabric === undefined) return [...bridges, ...taps];
    const bridged = this.#declared.filter(({ kind }) => kind !== 'routed');
    const tunnels = bridged.map((network) => vxlanOf(this.#instance, network, fabric));
    return [...bridges, ...tunnels, transitOf(this.#instance, fabric), ...taps];
  }

  /**
   * Brings the machine to the desired state. Returns the faults by interface name. All calls during a run share the
   * next run.
   */
  converge(): Promise<ReadonlyMap<string, string>> {
    this.#queued ??= this.#mutex.run(async () => {
      this.#queued = undefined;
      this.#bridgesAreFiltered = this.#filteredNetworks().size === 0 || (await hasBridgeFilter(this.#run));
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
    // A tap of another VM, whose former process may still have it open, is never taken over.
    const aliases = new Map(links.map(({ name, alias }) => [name, alias]));
    const isSurplus = ({ name, alias, kind }: ObservedLink) =>
      !names.has(name) || (kind === linkKinds.tap && alias !== undefined && alias !== aliases.get(name));
    const surplusLinks = this.#owned(before).filter(isSurplus);
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
    if (!this.#bridgesAreFiltered) addFaults(this.#groupsOf.faultsWithoutFilter(this.#interfaces()));
    const unchecked = await this.#groups.recheck(this.#groupsOf.filterOf(this.#ports(names)));
    if (unchecked !== undefined) faults.set('security groups', unchecked);

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
    const ports = this.#ports(available).flatMap(({ network, tap, mac, addresses: own, prefixes }) => {
      const bridge = bridgeName(network.vni);
      const addresses = [...own, formatIpv6(linkLocalAddress(mac))];
      return available.has(bridge) ? [{ tap, bridge, mac, addresses, prefixes }] : [];
    });
    const others = [...observed.values()].filter(
      ({ alias }) => isUcloudAlias(alias) && idInAlias(this.#instance, alias) === undefined,
    );
    const foreign = others.flatMap(({ addresses }) => addresses.map(({ cidr }) => cidr));
    // The prefixes of the cloud have no interface. The instance with the transit keeps them right.
    const hasForeignTransit = others.some(({ name }) => name === transitName);
    const local = localPaths(ports);
    const remote = this.#fabric && remotePaths(this.#fabric, available);
    const transit = available.has(transitName) ? [transitName] : [];
    const tunnels = networks.flatMap(({ vni }) => (available.has(vxlanName(vni)) ? [vxlanName(vni)] : []));
    const routers = [...bridges.map(({ bridge }) => bridge), ...transit];
    const unreachable = new Map(bridges.map(({ cidr, bridge }) => [cidr, bridge]));
    for (const prefix of this.#fabric?.unreachable ?? []) {
      if (!unreachable.has(prefix)) unreachable.set(prefix, transitName);
    }
    const desired: DesiredPaths = {
      entries: [...local.entries, ...(remote?.entries ?? [])],
      neighbours: [...local.neighbours, ...(remote?.neighbours ?? [])],
      routes: [...local.routes, ...(remote?.routes ?? [])],
      unreachable: [...unreachable].map(([prefix, link]) => ({ prefix, link })),
      devices: [...ports.map(({ tap }) => tap), ...routers, ...tunnels],
      isForeign: (prefix) => hasForeignTransit || foreign.includes(`${routerAddress(prefix)}/64`),
    };
    const { faults } = await this.#reconcile({
      read: () => observePaths(this.#run, routers),
      plan: (paths) => planPaths(desired, paths),
      change: async (commands) => {
        const of = (wanted: PathCommand['program']) =>
          commands.filter(({ program }) => program === wanted).map(({ line }) => line);
        return `${await this.#batch(of('bridge'), 'bridge')}${await this.#batch(of('ip'), 'ip', '-6')}`;
      },
    });
    return faults;
  }

  /** Returns the interfaces of all VMs. */
  #interfaces(): InterfaceSpec[] {
    return [...this.#attachments.values()].flat();
  }

  /** Returns the networks whose bridges must filter frames between guests. */
  #filteredNetworks(): Set<number> {
    const filtered = this.#interfaces().filter((each) => this.#groupsOf.isFiltered(each));
    return new Set(filtered.map(({ network }) => network.vni));
  }

  /** Returns the interfaces of VMs that have one of these taps. */
  #ports(taps: ReadonlySet<string>): (Port & { network: NetworkSpec })[] {
    const prefixesOf = (mac: string) => this.#routes.flatMap((route) => (route.mac === mac ? [route.prefix] : []));
    return [...this.#attachments.values()].flatMap((interfaces) => {
      const ofVm = interfaces.flatMap(({ mac }) => prefixesOf(mac));
      return interfaces.flatMap((each) => {
        const tap = tapOf(each);
        const { mac, address, more_addresses = [], network, leaving } = each;
        // The tap stays while the guest has the interface. Without a port, its filter drops everything.
        if (leaving) return [];
        const addresses = [address, ...more_addresses];
        const router = gatewayMac(network.vni);
        return taps.has(tap) ? [{ tap, mac, addresses, network, prefixes: prefixesOf(mac), router, ofVm }] : [];
      });
    });
  }

  /** @param existing the names of all existing interfaces of the instance. A surplus interface may send nothing. */
  async #applyFilter(existing: ReadonlySet<string>): Promise<void> {
    if (this.isEmpty && existing.size === 0) {
      if ((await this.#groups.inventory()).length > 0) await this.#groups.remove();
      return this.#filter.apply(undefined);
    }
    const ports = this.#ports(existing);
    const known = new Set(ports.map(({ tap }) => tap));
    const names = [...existing];
    const taps = names.filter((name) => isTapName(name));
    const tunnels = this.#declared.map(({ vni }) => ({ device: vxlanName(vni), vni }));
    const { address: local, peers, unreachable: prefixes } = this.#fabric ?? {};
    const groups = this.#groupsOf.filterOf(ports);
    const guarded = new Set(groups.ports.map(({ mac }) => mac));
    // Connections are tracked only after the rules that need it.
    await this.#groups.apply(groups);
    await this.#filter.apply({
      ports,
      guarded: ports.flatMap(({ tap, mac }) => (guarded.has(mac) ? [tap] : [])),
      tracked: groups.ports.flatMap(({ addresses }) => addresses),
      closed: taps.filter((tap) => !known.has(tap)),
      tunnels: tunnels.filter(({ device }) => existing.has(device)),
      taps,
      bridges: names.filter((name) => isBridgeName(name)),
      addresses: ports.flatMap(({ addresses }) => addresses),
      prefixes: this.#routes.map(({ prefix }) => prefix),
      ...(local !== undefined && peers && prefixes && { fabric: { transit: transitName, local, peers, prefixes } }),
    });
  }

  /**
   * Returns the numbers of frames that the filter dropped because of their source address, by VM, at the last run of
   * `converge`.
   */
  sourceDrops(): ReadonlyMap<string, number> {
    return new Map(
      [...this.#attachments].map(([vm, interfaces]) => [
        vm,
        interfaces.reduce((total, each) => total + (this.#filter.sourceDrops.get(tapOf(each)) ?? 0), 0),
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
    const links = await observeLinks(this.#run);
    return [
      ...(await this.#radvd.find()).map(({ pid }) => `process ${pid} (radvd)`),
      ...[...this.#owned(links), ...this.#unmarked(links)].map((link) => `interface ${link.name}`),
      ...(await this.#filter.inventory()),
      ...(await this.#groups.inventory()),
      ...(await changedSysctls(this.#sysctlsFile)).map((path) => `kernel setting ${path}`),
    ];
  }

  /** Returns the desired interfaces that exist without an alias, because of a crash. */
  #unmarked(links: ReadonlyMap<string, ObservedLink>): ObservedLink[] {
    return this.#desired().flatMap(({ name, kind }) => {
      const link = links.get(name);
      return link && link.alias === undefined && link.kind === linkKinds[kind] ? [link] : [];
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
      await this.#filter.remove();
      await this.#groups.remove();
      this.#fabric = undefined;
      await this.#applyPaths([], new Set(), links);
      await restoreSysctls(this.#sysctlsFile, links);
      await rm(this.#directory, { recursive: true, force: true });
      this.#declared = [];
      this.#routes = [];
      this.#attachments.clear();
    });
  }
}
