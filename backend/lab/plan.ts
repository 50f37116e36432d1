/**
 * The plan of a lab: its nodes with their addresses and daemons. Pure: everything follows from the directory and the options,
 * so a lab is found again without any record.
 *
 * Each node is a network namespace with one link to the spine, which routes. The underlay is IPv6 only. Each link has a /64
 * of its own, and the initial namespace of the machine has a link, too, so that users reach the lab.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { HypervisorChoice } from '../cli/layout.ts';
import { formatIpv6 } from '../model/network/addresses.ts';

/** The options of a lab. */
export interface LabOptions {
  /** The number of hosts, 1 to 16. */
  readonly hosts: number;
  /** The number of etcd members: 1, 3 or 5. */
  readonly etcd: number;
  readonly hypervisor: HypervisorChoice;
}

/** The record of a lab in its directory. */
export interface LabRecord extends LabOptions {
  readonly kind: typeof labKind;
  /** The id of the lab. A directory with another path has another id, and is another lab. */
  readonly id: string;
}

/** Marks the record, so that no file of another program counts as one. */
export const labKind = 'ucloud-lab';
export const defaultOptions: LabOptions = { hosts: 3, etcd: 3, hypervisor: 'auto' };

/** Returns the options as a command line. */
export const describeOptions = ({ hosts, etcd, hypervisor }: LabOptions): string =>
  `--hosts ${hosts} --etcd ${etcd} --hypervisor ${hypervisor}`;

/** The kinds of daemons. All but etcd and bird are commands of ucloud. */
export const daemonKinds = ['etcd', 'api', 'scheduler', 'billing', 'scanner', 'file-scanner', 'agent', 'bird'] as const;
export type DaemonKind = (typeof daemonKinds)[number];

/** A node. */
export interface LabNode {
  readonly name: string;
  /** The address on the link to the spine. */
  readonly address: string;
  /** The address of the spine on this link, which is the default route of the node. */
  readonly gateway: string;
  readonly daemons: readonly DaemonKind[];
}

/** The parts of a lab. */
export interface LabPlan {
  /** Six hexadecimal digits. */
  readonly id: string;
  /** The underlay: a /48 of unique local addresses (RFC 4193). */
  readonly prefix: string;
  readonly nodes: readonly LabNode[];
  /** The router between all nodes. Its address is on no link. */
  readonly router: LabNode;
  /** The link of the initial namespace: the name of its device, and its addresses. */
  readonly control: { readonly device: string; readonly address: string; readonly gateway: string };
}

/** The name of the router between all nodes. */
export const spine = 'spine';
export const etcdPorts = { client: 2379, peer: 2380 } as const;
export const apiPort = 7780;
export const maxHosts = 16;

const digest = (directory: string): string => createHash('sha256').update(directory).digest('hex');

/** Returns the id of the lab in this directory, an absolute path. */
export const labId = (directory: string): string => digest(directory).slice(0, 6);

const numbered = (name: string, count: number, daemons: readonly DaemonKind[]) =>
  Array.from({ length: count }, (_, index) => ({ name: `${name}-${index + 1}`, daemons }));

/** Returns the name of the device in the initial namespace that leads to the lab. */
export const controlDevice = (id: string): string => `ulab${id}`;

/** Returns the plan of the lab in this directory, an absolute path. */
export function labPlan(directory: string, { hosts, etcd }: LabOptions): LabPlan {
  const hash = digest(directory);
  // The kernel and the API print addresses in their normal spelling, without zeros at the beginning of a group.
  const network = BigInt(`0xfd${hash.slice(0, 10)}`);
  const addressIn = (link: number, host: bigint) => formatIpv6((network << 80n) | (BigInt(link) << 64n) | host);
  const link = (number: number) => ({ gateway: addressIn(number, 1n), address: addressIn(number, 2n) });
  const nodes = [
    ...numbered('etcd', etcd, ['etcd']),
    ...numbered('api', 1, ['api', 'file-scanner', 'billing']),
    ...numbered('scheduler', 2, ['scheduler']),
    ...numbered('scanner', 1, ['scanner']),
    ...numbered('host', hosts, ['agent']),
    { name: 'client', daemons: [] },
  ];
  const id = labId(directory);
  return {
    id,
    prefix: `${addressIn(0, 0n)}/48`,
    nodes: nodes.map((node, index) => ({ ...node, ...link(index + 1) })),
    router: { name: spine, daemons: ['bird'], address: addressIn(0, 1n), gateway: addressIn(0, 1n) },
    control: { device: controlDevice(id), ...link(0xffff) },
  };
}

/** Returns the beginning of the names of all namespaces of the lab. */
export const namespacePrefix = (id: string): string => `ulab-${id}-`;

/** Returns the name of the namespace of a node. */
export const namespaceOf = (id: string, node: string): string => `${namespacePrefix(id)}${node}`;

/** Returns the store address for the components. @param directory the directory of the certificates */
export function storeUrl({ nodes }: LabPlan, directory: string): string {
  const members = nodes.filter(({ daemons }) => daemons.includes('etcd'));
  const endpoints = members.map(({ address }) => `[${address}]:${etcdPorts.client}`).join(',');
  const files = { ca: 'ca.pem', cert: 'client.pem', key: 'client-key.pem' };
  const query = Object.entries(files).map(([name, file]) => `${name}=${encodeURIComponent(join(directory, file))}`);
  return `etcds://${endpoints}?${query.join('&')}`;
}

/** Returns the URL of the API. */
export function apiUrl({ nodes }: LabPlan): string {
  const address = nodes.find(({ daemons }) => daemons.includes('api'))?.address;
  return `http://[${address}]:${apiPort}`;
}

/** Returns all nodes, with the router. */
export const allNodes = ({ nodes, router }: LabPlan): LabNode[] => [...nodes, router];

const namesOf = (nodes: readonly LabNode[]): string => nodes.map(({ name }) => name).join(', ');

/** Returns the node of this name, which may be the router. @throws Error that lists the names */
export function nodeNamed(plan: LabPlan, name: string): LabNode {
  const node = allNodes(plan).find((each) => each.name === name);
  if (node) return node;
  const names = namesOf(allNodes(plan));
  throw new Error(`there is no node ${JSON.stringify(name)} in this lab; the nodes are ${names}`);
}

/** Returns the node of this name, whose link may fail. @throws Error that lists the names */
export function linkedNodeNamed(plan: LabPlan, name: string): LabNode {
  const node = nodeNamed(plan, name);
  if (node !== plan.router) return node;
  throw new Error(`links belong to the nodes around ${name}: ${namesOf(plan.nodes)}`);
}

/** A node, or one of its daemons. */
export interface Target {
  readonly node: LabNode;
  readonly daemon?: DaemonKind;
}

/** Returns the target of a text: `<node>` or `<node>/<daemon>`. @throws Error that names the rule */
export function targetNamed(plan: LabPlan, text: string): Target {
  const [name = '', daemon, ...rest] = text.split('/');
  const node = nodeNamed(plan, name);
  if (daemon === undefined) return { node };
  const found = node.daemons.find((each) => each === daemon);
  if (found !== undefined && rest.length === 0) return { node, daemon: found };
  throw new Error(
    `${name} has no daemon ${JSON.stringify([daemon, ...rest].join('/'))}; it has ${node.daemons.join(', ') || 'none'}`,
  );
}
