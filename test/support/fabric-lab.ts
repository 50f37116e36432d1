/**
 * Hosts with the real driver on one underlay: each host has a namespace and a link to the namespace of the spine, which only
 * routes. Underlay addresses are on the loopback interface, as they are with several uplinks.
 */
import type { Test } from 'tap';
import type { FabricSpec, NetworkSpec, RemoteInterface, SecuritySpec } from '../../backend/host/hypervisor/specs.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { formatIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import { tapName } from '../../backend/model/network/interface-names.ts';
import { storedPrefix } from '../../backend/model/network/prefixes.ts';
import { type DrivenHost, type DriverProcess, hostIn } from './driven-host.ts';
import { KernelGuest } from './kernel-guest.ts';
import { type NetNamespace, netNamespace } from './net-namespace.ts';

/** A host of the lab. */
export interface FabricHost {
  readonly host: DrivenHost;
  readonly underlay: string;
  driver: DriverProcess;
}

/** A VM of the lab, which may have no guest. */
export interface FabricVm {
  readonly vm: string;
  readonly network: NetworkSpec;
  readonly mac: string;
  readonly address: string;
  /** The number of its host. */
  host: number;
}

export class FabricLab {
  readonly spine: NetNamespace;
  readonly hosts: FabricHost[] = [];
  readonly vms: FabricVm[] = [];
  /** The routed prefixes with their VMs. */
  readonly routes = new Map<string, FabricVm>();
  /** The filters of interfaces. Interfaces that it does not name have no groups. */
  security: SecuritySpec = { groups: [], peers: [], interfaces: [] };
  readonly #t: Test;
  readonly #mtu: number;
  /** The prefixes of the cloud. */
  readonly prefix = 'fd42::/32';

  constructor(t: Test, count: number, mtu = 1600) {
    this.#t = t;
    this.#mtu = mtu;
    this.spine = netNamespace(t, 'spine');
    this.spine.run('sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=1');
    const hook = '{ type filter hook forward priority 0; policy accept; }';
    this.spine.run('nft', 'add', 'table', 'inet', 'count');
    this.spine.run('nft', 'add', 'chain', 'inet', 'count', 'through', hook);
    this.spine.run('nft', 'add', 'rule', 'inet', 'count', 'through', 'udp', 'dport', '4789', 'counter');
    for (let number = 1; number <= count; number++) this.#addHost(number);
  }

  #addHost(number: number): void {
    const namespace = netNamespace(this.#t, `h${number}`);
    const [underlay, link, router] = [`fd00:f::${number}`, `fd00:0:0:${number}::2`, `fd00:0:0:${number}::1`];
    const port = `p${number}`;
    this.spine.ip('link', 'add', port, 'mtu', `${this.#mtu}`, 'type', 'veth', 'peer', 'eth0', 'netns', namespace.name);
    namespace.ip('link', 'set', 'eth0', 'mtu', `${this.#mtu}`, 'up');
    namespace.ip('addr', 'add', `${link}/64`, 'dev', 'eth0', 'nodad');
    namespace.ip('addr', 'add', `${underlay}/128`, 'dev', 'lo', 'nodad');
    this.spine.ip('link', 'set', port, 'up');
    this.spine.ip('addr', 'add', `${router}/64`, 'dev', port, 'nodad');
    this.spine.ip('-6', 'route', 'add', `${underlay}/128`, 'via', link, 'dev', port);
    namespace.ip('-6', 'route', 'add', 'default', 'via', router, 'dev', 'eth0', 'src', underlay);
    const host = hostIn(this.#t, namespace);
    this.hosts.push({ host, underlay, driver: host.driver('network') });
  }

  /** Returns the host with this number, from 1. */
  at(number: number): FabricHost {
    const host = this.hosts[number - 1];
    if (!host) throw new Error(`there is no host ${number}`);
    return host;
  }

  network(vni: number, mtu = 1500, kind: NetworkSpec['kind'] = 'bridged'): NetworkSpec {
    const id = idFrom('network', `net-${String(vni).padStart(16, '0')}`);
    return { id, kind, vni, cidr: `fd42:0:0:${vni.toString(16)}::/64`, mtu, dns_servers: [] };
  }

  vm(host: number, network: NetworkSpec): FabricVm {
    const number = this.vms.length + 1;
    const mac = `02:00:5e:10:00:${number.toString(16).padStart(2, '0')}`;
    const address = formatIpv6(slaacAddress(storedPrefix(network.cidr).address, mac));
    const vm = { vm: `vm-${String(number).padStart(16, '0')}`, network, mac, address, host };
    this.vms.push(vm);
    return vm;
  }

  /** The networks of a host. */
  networksOf(number: number): NetworkSpec[] {
    const own = this.vms.filter(({ host }) => host === number).map(({ network }) => network);
    return [...new Map(own.map((network) => [network.vni, network])).values()];
  }

  fabricOf(number: number): FabricSpec {
    const bridged = this.networksOf(number).filter(({ kind }) => kind !== 'routed');
    const carried = new Set(bridged.map(({ vni }) => vni));
    const interfaces: RemoteInterface[] = this.vms.flatMap(({ host, network: { vni }, mac, address }) =>
      host === number ? [] : [{ ...(carried.has(vni) && { vni }), mac, address, via: this.at(host).underlay }],
    );
    const peers = this.hosts.flatMap(({ underlay }, index) => (index + 1 === number ? [] : [underlay]));
    const { underlay: address } = this.at(number);
    const routes = [...this.routes].flatMap(([prefix, { host }]) =>
      host === number ? [] : [{ prefix, via: this.at(host).underlay }],
    );
    return { address, mtu: this.#mtu, peers, interfaces, routes, unreachable: [this.prefix] };
  }

  /** Passes the whole wanted state to the driver of a host. Returns the faults. */
  async converge(number: number): Promise<unknown> {
    const { driver } = this.at(number);
    const routes = [...this.routes].flatMap(([prefix, { host, mac }]) => (host === number ? [{ prefix, mac }] : []));
    const interfaces = this.vms.map(
      ({ mac }) => this.security.interfaces.find((each) => each.mac === mac) ?? { mac, groups: [] },
    );
    const security = { ...this.security, interfaces };
    await driver.call('declare', this.networksOf(number), this.fabricOf(number), routes, security);
    for (const { vm, host, network, mac, address } of this.vms) {
      if (host === number) await driver.call('attach', vm, [{ network, mac, address }]);
      else await driver.call('detach', vm);
    }
    return driver.call('converge');
  }

  async convergeAll(): Promise<void> {
    for (let number = 1; number <= this.hosts.length; number++)
      this.#t.strictSame(await this.converge(number), [], `host ${number} has no faults`);
  }

  start({ host, mac, address }: FabricVm): Promise<KernelGuest> {
    return KernelGuest.start(this.#t, this.at(host).host.namespace, { tap: tapName(mac), mac, address });
  }

  /** Returns the number of packets in tunnels that have passed the spine. */
  get tunnelled(): number {
    return Number(
      /udp dport 4789 counter packets (\d+)/.exec(this.spine.run('nft', 'list', 'table', 'inet', 'count'))?.[1],
    );
  }
}
