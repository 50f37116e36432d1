/**
 * Configuration of radvd: announces to each network its router, its /64, its MTU and its resolvers (RFC 4861, 4862,
 * 8106). Pure.
 */
import { bridgeName, gatewayAddress } from '../../model/network/interface-names.ts';
import type { NetworkSpec } from '../hypervisor/specs.ts';

/** Seconds between advertisements that nobody asked for. What they say is valid for three of them. */
const maxInterval = 100;

function interfaceBlock({ vni, cidr, mtu, dns_servers }: NetworkSpec): string {
  return [
    `interface ${bridgeName(vni)} {`,
    '  AdvSendAdvert on;',
    // A bridge that is not there must not keep the others from being announced.
    '  IgnoreIfMissing on;',
    `  MinRtrAdvInterval ${maxInterval / 4};`,
    `  MaxRtrAdvInterval ${maxInterval};`,
    `  AdvLinkMTU ${mtu};`,
    // The bridge has two link-local addresses: routers are known by this one.
    `  AdvRASrcAddress { ${gatewayAddress}; };`,
    `  prefix ${cidr} { AdvOnLink on; AdvAutonomous on; };`,
    ...(dns_servers.length > 0 ? [`  RDNSS ${dns_servers.join(' ')} { AdvRDNSSLifetime ${3 * maxInterval}; };`] : []),
    '};',
  ].join('\n');
}

/** In the order of the VNIs, so that the same networks give the same text. Empty when there is nothing to announce. */
export const radvdConfig = (networks: readonly NetworkSpec[]): string =>
  [...networks]
    .sort((a, b) => a.vni - b.vni)
    .map((network) => `${interfaceBlock(network)}\n`)
    .join('');
