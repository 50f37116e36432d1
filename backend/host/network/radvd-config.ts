/**
 * The configuration of radvd. The router advertisements of a network contain its router, its /64, its MTU and its
 * resolvers (RFC 4861, 4862, 8106). Pure.
 */
import { bridgeName, gatewayAddress } from '../../model/network/interface-names.ts';
import type { NetworkSpec } from '../hypervisor/specs.ts';

/**
 * The maximum time between unsolicited advertisements, in seconds. Router and resolvers are valid three times as long.
 */
const maxIntervalSeconds = 100;

function interfaceBlock({ vni, kind, cidr, mtu, dns_servers }: NetworkSpec): string {
  return [
    `interface ${bridgeName(vni)} {`,
    '  AdvSendAdvert on;',
    // A missing bridge must not stop the advertisements on the other bridges.
    '  IgnoreIfMissing on;',
    `  MinRtrAdvInterval ${maxIntervalSeconds / 4};`,
    `  MaxRtrAdvInterval ${maxIntervalSeconds};`,
    `  AdvLinkMTU ${mtu};`,
    // The bridge has two link-local addresses. Guests know the router by this one.
    `  AdvRASrcAddress { ${gatewayAddress}; };`,
    // The guests of a routed network send all packets to the router.
    `  prefix ${cidr} { AdvOnLink ${kind === 'routed' ? 'off' : 'on'}; AdvAutonomous on; };`,
    ...(dns_servers.length > 0
      ? [`  RDNSS ${dns_servers.join(' ')} { AdvRDNSSLifetime ${3 * maxIntervalSeconds}; };`]
      : []),
    '};',
  ].join('\n');
}

/**
 * Returns the configuration of radvd; empty without networks. The same networks in any order give the same text.
 */
export const radvdConfig = (networks: readonly NetworkSpec[]): string =>
  [...networks]
    .sort((a, b) => a.vni - b.vni)
    .map((network) => `${interfaceBlock(network)}\n`)
    .join('');
