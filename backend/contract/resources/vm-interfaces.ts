/** The network interfaces of a VM. */
import { Type } from '@sinclair/typebox';
import { Ipv6, MacAddress, Reference } from '../fields.ts';

/** The maximum number of interfaces of a VM. */
export const maxInterfaces = 8;
/** The maximum number of secondary addresses of an interface. */
export const maxSecondaryAddresses = 8;
/** The maximum number of addresses of a VM, with the derived ones. One commit gives them, and one frees them. */
export const maxAddresses = 32;
/** The same with those that the guest may still have. */
export const maxHeldAddresses = 48;
/** The maximum number of security groups that an interface names. */
export const maxInterfaceGroups = 8;
/** The maximum number of different security groups that the interfaces of a VM name. */
export const maxVmGroups = 16;

const fields = {
  network: Reference('network', { description: 'The network of the interface.' }),
  mac: MacAddress({
    description:
      'MAC address, unicast and locally administered, unique in the cloud. Addresses that begin with `42` are computed: a request may contain such an address only if it is the default for attempt 0. Default: `42` and the first five octets of the SHA-256 of the id of the project, the name of the VM, the index of the interface and the attempt, as text with a NUL between each. The attempt is 0, or the first number whose address is free. So a client can compute the address before the creation.',
  }),
  address: Ipv6({
    description:
      'IPv6 address in the /64 of the network, unique in the cloud. Default: the derived address, which is the /64 with the modified EUI-64 of the MAC address. The guest forms the derived address by itself (SLAAC), so the interface has it in addition to another `address`. ucloud-init and cloud-init configure the other one.',
  }),
  secondary_addresses: Type.Array(Ipv6(), {
    maxItems: maxSecondaryAddresses,
    uniqueItems: true,
    default: [],
    description:
      'Further IPv6 addresses in the /64 of the network, which no other interface has. A VM has at most 32 addresses in all, with the derived ones. ucloud-init and cloud-init configure them in the guest. The host drops packets from all other addresses.',
  }),
  security_groups: Type.Array(Reference('security_group'), {
    maxItems: maxInterfaceGroups,
    uniqueItems: true,
    default: [],
    description:
      'Security groups of the interface, beside those whose `vm_selector` selects the VM. Default: those of the network.',
  }),
};

const interfacesDescription =
  'Network interfaces, in the order of the guest. An update replaces the whole list, and keeps interfaces: an entry with `mac` means the present interface with this MAC address, and another entry means one of its network, first of all one with the same `address`. A kept interface keeps its MAC address, and its `address` unless the entry has another one. So the order of the list changes no address. It gets the `secondary_addresses` and `security_groups` of the entry. A change of groups alone leaves the interface as it is. A running guest gets and loses interfaces at once. If it does not release an interface, the host drops its packets, and `pending_changes` contains `interfaces`.';

const array = { minItems: 1, maxItems: maxInterfaces, description: interfacesDescription };

/** The schema of `interfaces` in responses. */
export const Interfaces = Type.Array(Type.Object(fields, { additionalProperties: false }), array);
/** The schema of `interfaces` in requests. */
export const InterfacesInput = Type.Array(
  Type.Object(
    {
      network: fields.network,
      mac: Type.Optional(fields.mac),
      address: Type.Optional(fields.address),
      secondary_addresses: Type.Optional(fields.secondary_addresses),
      security_groups: Type.Optional(fields.security_groups),
    },
    { additionalProperties: false },
  ),
  array,
);
