/**
 * The nftables rules, in family netdev, for the frames of a network's VXLAN device. Pure.
 *
 * Each guest has its gateway and its metadata server at its own host, with the same addresses everywhere. Their frames
 * never cross hosts, in either direction. Routed packets travel on the transit, so none of them has the gateway's MAC
 * address here. Packet Too Big must pass: the kernel makes it for packets that are too large for the tunnel.
 */
import { gatewayAddress, gatewayMac, metadataAddress } from '../../model/network/interface-names.ts';

/** The VXLAN device of a network. It exists. */
export interface Tunnel {
  readonly device: string;
  readonly vni: number;
}

/** The chains of a device: their hooks, and their rules in order. */
export const tunnelChains = ({ device, vni }: Tunnel): { name: string; hook: string; rules: string[] }[] => [
  {
    name: `from_${device}`,
    hook: 'ingress',
    rules: [
      `ether saddr ${gatewayMac(vni)} counter drop`,
      `ether daddr ${gatewayMac(vni)} counter drop`,
      'ether type != ip6 counter drop',
      'icmpv6 type { nd-router-solicit, nd-router-advert, nd-redirect } counter drop',
      `ip6 saddr { ${gatewayAddress}, ${metadataAddress} } counter drop`,
    ],
  },
  {
    name: `to_${device}`,
    hook: 'egress',
    rules: [`ether saddr ${gatewayMac(vni)} counter drop`],
  },
];
