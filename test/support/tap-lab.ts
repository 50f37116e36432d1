/**
 * A host with two networks of the real driver, and guests on its real taps: `a` and `b` in one network, `c` in the other. The
 * namespace `world` is behind the host's uplink.
 */

import type { Test } from 'tap';
import type { NetworkSpec } from '../../backend/host/hypervisor/specs.ts';
import { counterName, dropReasons } from '../../backend/host/network/tap-filter.ts';
import { instanceOf } from '../../backend/host/system/instance.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { formatIpv6, linkLocalAddress, slaacAddress } from '../../backend/model/network/addresses.ts';
import { bridgeName, gatewayMac, tapName } from '../../backend/model/network/interface-names.ts';
import { storedPrefix } from '../../backend/model/network/prefixes.ts';
import { type DrivenHost, type DriverProcess, drivenHost } from './driven-host.ts';
import { until } from './eventually.ts';
import type { Party } from './hostile-frames.ts';
import { type NetNamespace, netNamespace } from './net-namespace.ts';
import { TapGuest } from './tap-guest.ts';

/** The user id of the processes that open the taps. */
export const uid = 1879048192;

export interface LabGuest extends Party {
  readonly vm: string;
  readonly network: NetworkSpec;
  readonly tap: string;
}

export const networkOf = (vni: number): NetworkSpec => ({
  id: idFrom('network', `net-${String(vni).padStart(16, '0')}`),
  vni,
  cidr: `fd42:0:0:${vni.toString(16)}::/64`,
  mtu: 1430,
  dns_servers: [],
});

export function guestOf(number: number, network: NetworkSpec): LabGuest {
  const mac = `02:00:5e:10:00:${number.toString(16).padStart(2, '0')}`;
  return {
    vm: `vm-${String(number).padStart(16, '0')}`,
    network,
    mac,
    tap: tapName(mac),
    address: formatIpv6(slaacAddress(storedPrefix(network.cidr).address, mac)),
    linkLocal: formatIpv6(linkLocalAddress(mac)),
  };
}

/** The addresses of the host on its uplink. */
export const hostAddress = '2001:db8:ff::1';
export const hostIpv4 = '203.0.113.1';
export const worldAddress = '2001:db8:ff::2';

export class TapLab {
  readonly host: DrivenHost;
  readonly world: NetNamespace;
  readonly networks = [networkOf(7), networkOf(8)] as const;
  readonly a = guestOf(1, this.networks[0]);
  readonly b = guestOf(2, this.networks[0]);
  readonly c = guestOf(3, this.networks[1]);
  driver: DriverProcess;

  constructor(host: DrivenHost, world: NetNamespace) {
    this.host = host;
    this.world = world;
    this.driver = host.driver('network');
  }

  get guests(): readonly LabGuest[] {
    return [this.a, this.b, this.c];
  }

  get bridge(): string {
    return bridgeName(this.networks[0].vni);
  }

  get router(): string {
    return gatewayMac(this.networks[0].vni);
  }

  get table(): string {
    return `ucloud_${instanceOf(this.host.dataDir)}`;
  }

  /** Passes the whole wanted state to the driver, like a new agent, and waits for its work. Returns the errors. */
  async converge(): Promise<unknown> {
    await this.driver.call('declare', this.networks);
    for (const { vm, network, mac, address } of this.guests)
      await this.driver.call('attach', vm, [{ network, mac, address }]);
    return this.driver.call('converge');
  }

  async restartAgent(): Promise<void> {
    await this.driver.kill();
    this.driver = this.host.driver('network');
  }

  open(t: Test, { tap }: LabGuest, instructed = false): Promise<TapGuest> {
    return TapGuest.open(t, this.host.namespace, tap, uid, instructed);
  }

  sysctl(name: string, value: string | number): void {
    this.host.namespace.run('sysctl', '-q', '-w', `net.ipv6.conf.${name}=${value}`);
  }

  read(name: string): string {
    return this.host.namespace.run('sysctl', '-n', `net.ipv6.conf.${name}`).trim();
  }

  /** Removes the filters. */
  withoutFilters(...families: readonly ('netdev' | 'inet')[]): void {
    for (const family of families) this.host.namespace.run('nft', 'delete', 'table', family, this.table);
  }

  /** Returns the number of frames of the guest that the filter of its tap has dropped, by reason. */
  drops({ tap }: LabGuest): Record<string, number> {
    const listed = JSON.parse(
      this.host.namespace.run('nft', '-j', 'list', 'counters', 'table', 'netdev', this.table),
    ) as { nftables: { counter?: { name: string; packets: number } }[] };
    const all = new Map(listed.nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])));
    return Object.fromEntries(dropReasons.map((reason) => [reason, all.get(counterName(tap, reason)) ?? 0]));
  }

  bridgeEntries(): { mac: string; ifname: string; state: string }[] {
    const all = JSON.parse(this.host.namespace.run('bridge', '-j', 'fdb', 'show', 'br', this.bridge)) as {
      mac: string;
      ifname: string;
      master?: string;
      state: string;
    }[];
    // Newer versions of the kernel show an entry once for each VLAN.
    return [
      ...new Map(
        all.filter(({ master }) => master !== undefined).map((each) => [`${each.mac} ${each.ifname}`, each]),
      ).values(),
    ];
  }

  /** Returns the neighbours of the host that the driver has not configured. */
  soughtNeighbours(): number {
    const all = JSON.parse(this.host.namespace.run('ip', '-j', '-6', 'neigh', 'show')) as { state: string[] }[];
    return all.filter(({ state }) => !state.includes('PERMANENT')).length;
  }

  trackedConnections(): number {
    return Number(this.host.namespace.run('sysctl', '-n', 'net.netfilter.nf_conntrack_count'));
  }
}

/** Creates a lab, which ends with the test. The driver has not configured it yet. */
export async function tapLab(t: Test, label: string): Promise<TapLab> {
  const host = drivenHost(t, label);
  const world = netNamespace(t, 'world');
  host.namespace.ip('link', 'add', 'name', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', world.name);
  for (const [namespace, name, ...addresses] of [
    [host.namespace, 'up0', `${hostAddress}/64`, `${hostIpv4}/24`],
    [world, 'eth0', `${worldAddress}/64`],
  ] as const) {
    namespace.ip('link', 'set', 'dev', name, 'up');
    for (const address of addresses) {
      const nodad = address.includes(':') ? ['nodad'] : [];
      namespace.ip('addr', 'add', address, 'dev', name, ...nodad);
    }
  }
  world.ip('-6', 'route', 'add', 'fd42::/16', 'via', hostAddress);
  await until('the uplink is there', () => host.namespace.ip('-6', 'route', 'show', 'dev', 'up0') !== '');
  return new TapLab(host, world);
}
