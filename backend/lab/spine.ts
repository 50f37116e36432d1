/**
 * The router of a lab, which routes between all nodes. bird runs on it, and hosts announce the prefixes of their VMs to it. So
 * the node `client` reaches each VM at its own address. Pure, except for `SpineBird`.
 *
 * A host may be hostile or wrong. So the router takes only prefixes outside of the underlay, and only with the announcing host
 * itself as next hop. From each link, it takes only packets whose source is no underlay address of another link.
 */
import { chmodSync, chownSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Bird, birdUser } from '../host/bgp/bird.ts';
import { askBird } from '../host/bgp/bird-control.ts';
import { run } from '../host/system/command.ts';
import { writeAtomically } from '../host/system/files.ts';
import { birdDirectory } from '../host/system/instance.ts';
import type { LabNode, LabPlan } from './plan.ts';

/** The peer that the hosts of a lab have, as `POST /v1/bgp-peers` takes it. The router has this address on each link. */
export const spinePeer = {
  name: 'spine',
  description: 'The router of the lab.',
  address: 'fe80::a%uplink',
  asn: 4200000000,
  local_asn: 4200000001,
} as const;

/** The address of the router in its sessions. */
export const peerAddress = 'fe80::a';

/** The most prefixes that the router takes from a host. */
const maxPrefixes = 10_000;

/** The BGP session of the router with a host. */
export interface SpineSession {
  readonly host: string;
  readonly state: 'established' | 'down';
  /** The number of accepted prefixes. */
  readonly prefixes: number;
}

const hostsOf = ({ nodes }: LabPlan): LabNode[] => nodes.filter(({ daemons }) => daemons.includes('agent'));
const symbol = (host: string): string => host.replaceAll('-', '_');

/** Returns the configuration of the router's bird. */
export function spineConfig(plan: LabPlan): string {
  const { asn, local_asn } = spinePeer;
  const sessions = hostsOf(plan).map(({ name, address }) => [
    `filter from_${symbol(name)} {`,
    `  if net ~ [ ${plan.prefix}+, ${plan.prefix}- ] then reject;`,
    `  if bgp_next_hop != ${address} then reject;`,
    '  accept;',
    '}',
    `protocol bgp port_${symbol(name)} {`,
    `  local ${peerAddress} as ${asn};`,
    `  neighbor range fe80::/10 as ${local_asn};`,
    `  interface "${name}";`,
    `  dynamic name "session_${symbol(name)}_";`,
    '  passive;',
    '  bfd on;',
    '  hold time 9;',
    '  keepalive time 3;',
    '  error wait time 1, 4;',
    '  ipv6 {',
    `    import filter from_${symbol(name)};`,
    `    import limit ${maxPrefixes} action block;`,
    '    export where proto = "defaults";',
    '    next hop self;',
    '  };',
    '}',
  ]);
  return `${[
    'log stderr { fatal, bug };',
    'router id 192.0.2.1;',
    'protocol device { scan time 10; }',
    'protocol kernel {',
    '  merge paths on;',
    '  ipv6 { import none; export where source = RTS_BGP; };',
    '}',
    // The hosts get a default route. The router itself has none.
    'protocol static defaults { ipv6; route ::/0 unreachable; }',
    'protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }',
    ...sessions.flat(),
  ].join('\n')}\n`;
}

/** Returns the rules against forged sources for `nft -f`. The devices of the router have the names of the nodes. */
export function sourceRules({ prefix, nodes, control }: LabPlan): string {
  const links = [...nodes.map(({ name, gateway }) => ({ name, gateway })), { name: 'control', ...control }];
  return [
    'table inet lab_sources {}',
    'delete table inet lab_sources',
    'table inet lab_sources {',
    '  chain arriving {',
    '    type filter hook prerouting priority -300; policy accept;',
    ...links.map(
      ({ name, gateway }) =>
        `    iifname "${name}" ip6 saddr ${prefix} ip6 saddr != ${gateway.replace(/1$/, '')}/64 counter drop`,
    ),
    '  }',
    '}',
    '',
  ].join('\n');
}

/** Returns the sessions in the answer of bird to `show protocols all`. */
export function sessionsIn(lines: readonly string[], plan: LabPlan): SpineSession[] {
  return hostsOf(plan).map(({ name: host }) => {
    const start = lines.findIndex(
      (line) => line.startsWith(`session_${symbol(host)}_`) && /\bEstablished\b/.test(line),
    );
    if (start < 0) return { host, state: 'down', prefixes: 0 };
    // The details of a session are indented.
    const length = lines.slice(start + 1).findIndex((line) => /^\S/.test(line));
    const details = lines.slice(start + 1, length < 0 ? undefined : start + 1 + length);
    const routes = details.map((line) => /^\s+Routes:\s+(\d+) imported/.exec(line)?.[1]).find(Boolean);
    return { host, state: 'established', prefixes: Number(routes ?? 0) };
  });
}

/** The files of the router's bird. Its process is a daemon of the lab. */
export class SpineBird {
  readonly #directory: string;

  constructor(labId: string) {
    this.#directory = birdDirectory(`lab-${labId}`);
  }

  /** The control socket of bird. */
  get socket(): string {
    return join(this.#directory, 'bird.ctl');
  }

  /** Tells whether this machine has bird. */
  isInstalled(): Promise<boolean> {
    return new Bird({ directory: this.#directory, run }).isInstalled();
  }

  /** Writes the configuration, and returns the command line of bird. It runs without privileges, except for routes. */
  async prepare(plan: LabPlan): Promise<string[]> {
    await mkdir(this.#directory, { recursive: true });
    chmodSync(this.#directory, 0o755);
    const config = join(this.#directory, 'bird.conf');
    await writeAtomically(config, spineConfig(plan));
    const user = await birdUser();
    if (user) chownSync(config, 0, user.gid);
    chmodSync(config, 0o640);
    return ['bird', '-f', ...(user ? ['-u', 'bird', '-g', 'bird'] : []), '-c', config, '-s', this.socket];
  }

  /** Returns the sessions; undefined if bird does not answer. */
  async sessions(plan: LabPlan): Promise<SpineSession[] | undefined> {
    try {
      return sessionsIn(await askBird(this.socket, 'show protocols all', { timeoutMs: 1_000 }), plan);
    } catch {
      // There is no bird, or it is paused.
      return undefined;
    }
  }

  /** Removes the files. */
  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
