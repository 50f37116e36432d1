/**
 * The documents of cloud-init's data source NoCloud, for stock images: meta-data, user-data, vendor-data and
 * network-config (https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html). They are JSON, with
 * the escapes that YAML parsers need.
 */
import { defaultNetworkConfig, type NetworkConfig } from '../../contract/resources/images.ts';
import { configuredAddresses } from '../network/interface-addresses.ts';
import type { ImageRecord, NetworkRecord, SshKeyRecord, VmRecord } from '../records/index.ts';
import { vendorData } from './vendor-data.ts';

/** An interface of the guest. */
export interface GuestInterface {
  readonly mac: string;
  readonly dnsServers: readonly string[];
  /** The addresses that the guest does not form by SLAAC. */
  readonly addresses: readonly string[];
}

/** The declaration of a VM, as far as the guest needs it. */
export interface GuestConfig {
  readonly id: string;
  readonly name: string;
  /** Public keys in the form of authorized_keys. */
  readonly sshKeys: readonly string[];
  readonly userData?: string | undefined;
  readonly interfaces: readonly GuestInterface[];
  readonly networkConfig: NetworkConfig;
}

/** The records that a VM refers to, by id; undefined for a record that was deleted. */
export interface Referenced {
  sshKey(id: string): Pick<SshKeyRecord, 'public_key'> | undefined;
  network(id: string): Pick<NetworkRecord, 'dns_servers'> | undefined;
  image(id: string): Pick<ImageRecord, 'network_config'> | undefined;
}

/** Returns what the guest of a VM needs. */
export const guestConfigOf = (vm: VmRecord, referenced: Referenced): GuestConfig => ({
  id: vm.id,
  name: vm.name,
  sshKeys: vm.ssh_keys.flatMap((id) => referenced.sshKey(id)?.public_key ?? []),
  userData: vm.user_data,
  interfaces: vm.interfaces.map((each) => ({
    mac: each.mac,
    dnsServers: referenced.network(each.network)?.dns_servers ?? [],
    addresses: configuredAddresses(each),
  })),
  networkConfig: (vm.boot ?? referenced.image(vm.image))?.network_config ?? defaultNetworkConfig,
});

/** The names of the documents. */
export const noCloudFiles = ['meta-data', 'user-data', 'vendor-data', 'network-config'] as const;
export type NoCloudDocuments = Readonly<Record<(typeof noCloudFiles)[number], string>>;

/**
 * Returns JSON that every YAML parser reads: PyYAML refuses control characters of Unicode that JSON allows, and takes some
 * for line breaks (YAML 1.1, 5.1).
 */
const json = (value: unknown): string => {
  const text = JSON.stringify(value, undefined, 1);
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `${text.replace(/[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/g, escaped)}\n`;
};

/** The prefix length of configured addresses: the route to the network comes from router advertisements. */
const configuredLength = 128;

/** Version 1 names each interface, and the guest renames the interface. */
const version1 = ({ interfaces }: GuestConfig): object => ({
  version: 1,
  config: interfaces.map(({ mac, dnsServers, addresses }, index) => ({
    type: 'physical',
    name: `eth${index}`,
    mac_address: mac,
    subnets: [
      { type: 'ipv6_slaac', ...(dnsServers.length > 0 && { dns_nameservers: dnsServers }) },
      ...addresses.map((address) => ({ type: 'static6', address: `${address}/${configuredLength}` })),
    ],
  })),
});

const version2 = ({ interfaces }: GuestConfig): object => ({
  version: 2,
  ethernets: Object.fromEntries(
    interfaces.map(({ mac, dnsServers, addresses }, index) => [
      `id${index}`,
      {
        match: { macaddress: mac },
        dhcp4: false,
        dhcp6: false,
        'accept-ra': true,
        ...(addresses.length > 0 && { addresses: addresses.map((address) => `${address}/${configuredLength}`) }),
        ...(dnsServers.length > 0 && { nameservers: { addresses: dnsServers } }),
      },
    ]),
  ),
});

/**
 * Returns the documents. Both forms of the network configuration ask for SLAAC, and contain the addresses that the guest
 * does not form by it. So the guest uses the addresses that the VM declares, and neither DHCP nor IPv4.
 */
export const noCloudDocuments = (config: GuestConfig): NoCloudDocuments => ({
  'meta-data': json({
    'instance-id': config.id,
    'local-hostname': config.name,
    'public-keys': config.sshKeys,
  }),
  'user-data': config.userData ?? '',
  'vendor-data': vendorData,
  'network-config': json(config.networkConfig === 'v1' ? version1(config) : version2(config)),
});
