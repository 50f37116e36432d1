/** A host in a network namespace, whose driver is another process: started, asked, killed and started again. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { instanceOf, runDirectory } from '../../backend/host/system/instance.ts';
import { until } from './eventually.ts';
import { type NetNamespace, netNamespace } from './net-namespace.ts';

/** Where a driver dies: after so many changes of the machine, or before a command of QEMU's monitor. */
export interface DeathPoint {
  readonly dieAfter?: number;
  readonly dieBefore?: string;
}

export interface HostDriverOptions extends DeathPoint {
  readonly part: 'network' | 'qemu';
  readonly dataDir: string;
  readonly imageStore?: string;
}

interface Message {
  readonly ready?: true;
  readonly failed?: string;
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: string;
  readonly exit?: { readonly vm: string; readonly cause: string };
}

/** One process of the driver. */
export class DriverProcess {
  readonly child: ChildProcess;
  readonly exits: { readonly vm: string; readonly cause: string }[] = [];
  readonly #answers = new Map<number, (message: Message) => void>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #dead = Promise.withResolvers<void>();
  #nextId = 1;

  constructor(child: ChildProcess) {
    this.child = child;
    child.on('message', (message: Message) => {
      if (message.failed !== undefined) this.#ready.reject(new Error(message.failed));
      if (message.ready) this.#ready.resolve();
      if (message.exit) this.exits.push(message.exit);
      if (message.id !== undefined) this.#answers.get(message.id)?.(message);
    });
    child.on('exit', () => {
      this.#dead.resolve();
      this.#ready.reject(new Error('the driver ended before it was ready'));
      for (const answer of this.#answers.values()) answer({ error: 'the driver ended' });
    });
    this.#ready.promise.catch(() => undefined);
  }

  /** Calls a method of the driver; rejects with its error, or when the process ends first. */
  async call<T = unknown>(method: string, ...args: readonly unknown[]): Promise<T> {
    await this.#ready.promise;
    const id = this.#nextId++;
    const { result, error } = await new Promise<Message>((resolve) => {
      this.#answers.set(id, resolve);
      if (this.child.connected)
        this.child.send({ id, method, args }, (failed) => failed && resolve({ error: 'the driver ended' }));
      else resolve({ error: 'the driver ended' });
    });
    this.#answers.delete(id);
    if (error !== undefined) throw new Error(error);
    return result as T;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#dead.promise;
  }
}

interface IpAddressed {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly addr_info: readonly { readonly local: string }[];
}

/** The flags by which the kernel tells of a carrier, some time after the change of a device. */
const carrierFlags: ReadonlySet<string> = new Set(['NO-CARRIER', 'LOWER_UP']);

export class DrivenHost {
  readonly namespace: NetNamespace;
  readonly dataDir: string;
  readonly imageStore: string;

  constructor(namespace: NetNamespace, directory: string) {
    this.namespace = namespace;
    this.dataDir = join(directory, 'host');
    this.imageStore = join(directory, 'images');
    mkdirSync(this.dataDir);
    mkdirSync(this.imageStore);
  }

  driver(part: 'network' | 'qemu', death: DeathPoint = {}): DriverProcess {
    return this.#start(part, death, []);
  }

  /** Starts a driver that finds no br_netfilter in the kernel. */
  driverWithoutBridgeFilter(): DriverProcess {
    const hidden = 'mount -t tmpfs none /proc/sys/net/bridge && exec "$@"';
    return this.#start('network', {}, ['unshare', '--mount', 'sh', '-c', hidden, 'sh']);
  }

  #start(part: 'network' | 'qemu', death: DeathPoint, within: readonly string[]): DriverProcess {
    const options: HostDriverOptions = { part, dataDir: this.dataDir, imageStore: this.imageStore, ...death };
    const script = join(import.meta.dirname, 'host-driver.ts');
    const [program = '', ...words] = [...within, process.execPath, script, JSON.stringify(options)];
    return new DriverProcess(this.namespace.spawn(program, words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
  }

  /** Processes in the namespace, without drivers and helpers of others: command lines by pid. */
  processes(): Map<number, string> {
    const pids = this.namespace.pids();
    return new Map(
      pids.flatMap((pid): [number, string][] => {
        try {
          const [state, , group] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
          if (state === 'Z' || state === 'X' || Number(group) !== pid) return [];
          const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
          return line === '' || line.includes('host-driver.ts') ? [] : [[pid, line]];
        } catch {
          return []; // It has ended meanwhile.
        }
      }),
    );
  }

  /** The visible state of a host. It must be the same after the removal of everything. */
  state(): string {
    const links = JSON.parse(this.namespace.ip('-j', 'addr', 'show')) as IpAddressed[];
    const sysctls = [
      'net.ipv6.conf.all.forwarding',
      'net.ipv6.conf.eth0.accept_ra',
      'net.bridge.bridge-nf-call-ip6tables',
    ];
    return JSON.stringify(
      {
        links: links.map(({ ifname, flags, addr_info }) => [
          ifname,
          flags.filter((flag) => !carrierFlags.has(flag)),
          addr_info.map(({ local }) => local).sort(),
        ]),
        // Advertisements and the like change the counts at any time.
        filters: this.namespace.run('nft', 'list', 'ruleset').replaceAll(/packets \d+ bytes \d+/g, 'packets 0 bytes 0'),
        // Ways to guests, as the driver has made them.
        paths: [
          ...this.namespace.ip('-6', 'route', 'show', 'proto', '117').split('\n'),
          ...this.namespace.ip('-6', 'neigh', 'show', 'nud', 'permanent').split('\n'),
          ...this.namespace
            .run('bridge', 'fdb', 'show')
            .split('\n')
            .filter((line) => line.includes(' static')),
          ...this.namespace
            .run('bridge', '-d', 'link', 'show')
            .split('\n')
            .filter((line) => line.includes('learning')),
        ]
          .map((line) => line.trim())
          .sort(),
        sysctls: sysctls.map((name) => this.namespace.run('sysctl', '-e', name)),
        processes: [...this.processes().values()],
      },
      undefined,
      2,
    );
  }
}

/** In a namespace of its own. Its processes, interfaces and files go with the test. */
export function drivenHost(t: Test, label: string): DrivenHost {
  const namespace = netNamespace(t, label);
  // An uplink, as every host has one. Any kind of interface will do (not every kernel has dummies).
  namespace.ip('link', 'add', 'name', 'eth0', 'address', '02:00:00:00:00:01', 'type', 'bridge');
  namespace.ip('link', 'set', 'dev', 'eth0', 'up');
  return hostIn(t, namespace);
}

/** Beside others in the namespace, the processes of which go, too, when the test ends. */
export function hostIn(t: Test, namespace: NetNamespace): DrivenHost {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-host-'));
  const host = new DrivenHost(namespace, directory);
  t.teardown(async () => {
    for (const pid of namespace.pids()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
    // The drivers, too, which might otherwise still make what is removed here.
    await until('the processes end', () => namespace.pids().length === 0);
    rmSync(runDirectory(instanceOf(host.dataDir)), { recursive: true, force: true });
    rmSync(directory, { recursive: true, force: true });
  });
  return host;
}
