/** A host and a spine router in network namespaces, for tests with real processes of bird. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Bird } from '../../backend/host/bgp/bird.ts';
import { type BirdSettings, birdConfig, type ConfiguredPeer } from '../../backend/host/bgp/bird-config.ts';
import { askBird } from '../../backend/host/bgp/bird-control.ts';
import { type Run, run } from '../../backend/host/system/command.ts';
import { noAnnouncements } from '../../backend/model/network/announcements.ts';
import { type NetNamespace, netNamespace } from './net-namespace.ts';

export const underlayAddress = 'fd00:0:0:1::2';
export const spineAddress = 'fd00:0:0:1::1';
/** The spine as the host sees it: a link-local address on the uplink. */
export const spinePeer: ConfiguredPeer = {
  id: 'bgp-0123456789abcdef',
  address: 'fe80::a%uplink',
  asn: 4200000000,
  local_asn: 4200000001,
};

const spineConfig = (password: string | undefined) => `
log stderr { fatal, bug };
router id 192.0.2.1;
protocol device {}
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static defaults { ipv6; route ::/0 unreachable; route fd00::/16 unreachable; route 2001:db8::/32 unreachable; }
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
protocol bgp {
  local as 4200000000; neighbor range fe80::/10 external; interface "host"; dynamic name "host_"; passive; bfd on;
  error wait time 1, 4;
  ${password === undefined ? '' : `password "${password}";`}
  ipv6 { import all; export where proto = "defaults"; next hop self; };
}`;

interface Route {
  readonly dst: string;
  readonly gateway?: string;
  readonly metric?: number;
  readonly protocol?: string;
  readonly prefsrc?: string;
}

export class BgpLab {
  readonly spine: NetNamespace;
  readonly host: NetNamespace;
  readonly directory: string;
  /** Runs programs in the namespace of the host. */
  readonly run: Run;

  constructor(t: Test) {
    this.spine = netNamespace(t, 'spine');
    this.host = netNamespace(t, 'bgp-host');
    this.directory = mkdtempSync(join(tmpdir(), 'ucloud-test-bgp-'));
    t.teardown(() => rmSync(this.directory, { recursive: true, force: true }));
    // bird reads its configuration as a user of its own.
    execFileSync('chmod', ['755', this.directory]);
    this.run = (program, args, input) => run('ip', ['netns', 'exec', this.host.name, program, ...args], input);
    this.spine.ip('link', 'add', 'host', 'type', 'veth', 'peer', 'name', 'uplink', 'netns', this.host.name);
    for (const address of ['fe80::a', spineAddress]) {
      this.spine.ip('address', 'add', `${address}/64`, 'dev', 'host', 'nodad');
    }
    this.host.ip('address', 'add', `${underlayAddress}/64`, 'dev', 'uplink', 'nodad');
    this.spine.ip('link', 'set', 'host', 'up');
    this.host.ip('link', 'set', 'uplink', 'up');
    this.host.ip('-6', 'route', 'add', 'default', 'via', spineAddress, 'dev', 'uplink');
  }

  /** Starts the bird of the spine, in the background. Its socket is `spine.ctl`. */
  startSpine(password?: string): void {
    const config = join(this.directory, 'spine.conf');
    writeFileSync(config, spineConfig(password));
    this.spine.run('bird', '-c', config, '-s', join(this.directory, 'spine.ctl'));
  }

  askSpine(command: string): Promise<string[]> {
    return askBird(join(this.directory, 'spine.ctl'), command);
  }

  askHost(command: string): Promise<string[]> {
    return askBird(join(this.directory, 'bird', 'bird.ctl'), command);
  }

  /** Returns the control of the host's bird, as a new agent has it. */
  bird(timeoutMs = 5_000, directory = join(this.directory, 'bird')): Bird {
    return new Bird({ directory, run: this.run, timeoutMs });
  }

  /** Returns a configuration of the host's bird. */
  config(change: Partial<BirdSettings> = {}): string {
    return birdConfig({ underlayAddress, peers: [spinePeer], announcements: noAnnouncements, ...change });
  }

  #routes(namespace: NetNamespace): Route[] {
    return JSON.parse(namespace.ip('-j', '-6', 'route', 'show')) as Route[];
  }

  /** Returns the prefixes with their next hops that the spine has from the host, in its kernel. */
  announced(): string[] {
    const routes = this.#routes(this.spine).filter(({ protocol }) => protocol === 'bird');
    return routes.map(({ dst, gateway }) => `${dst} via ${gateway}`).toSorted();
  }

  /** Returns the routes of the host's kernel that lead through the spine or come from bird. */
  hostRoutes(): string[] {
    const routes = this.#routes(this.host).filter(
      ({ gateway, protocol }) => gateway !== undefined || protocol === 'bird',
    );
    return routes.map(({ dst, gateway, metric }) => `${dst} via ${gateway} metric ${metric}`).toSorted();
  }
}
