/** A cloud with real guests, for programs that tell the story of some VMs: `ucloud up` with a network, and ssh as root. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cloud, cleanUp, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';

/** An object of the API, as far as the stories look at it. */
export interface Item {
  readonly id: string;
  readonly address: string;
  readonly status: {
    readonly phase: string;
    readonly ready: boolean;
    readonly restarts?: number;
    readonly size?: string;
    readonly message?: string;
  };
}

const options = ['--hypervisor', 'qemu'];
/** Lets root in on another port with the keys of the user, also after a restart, because only root may open devices. */
export const rootLogin = `#!/bin/sh
mkdir -p -m 700 /root/.ssh
cp /home/ucloud/.ssh/authorized_keys /root/.ssh/
echo '::respawn:/usr/sbin/dropbear -F -E -s -p 2222 -r /etc/dropbear/dropbear_ed25519_host_key' >> /etc/inittab
kill -HUP 1
sync
`;

/** A guest to which the stories speak. */
export type Guest = Pick<Item, 'address'>;

/** A cloud with one network. */
export class GuestCloud {
  readonly data: string;
  #cloud: Cloud;
  #network = '';

  private constructor(data: string, cloud: Cloud) {
    this.data = data;
    this.#cloud = cloud;
  }

  /** Runs the story with a new cloud, prints its result as JSON, and removes the cloud. */
  static async tell(data: string, image: string, story: (cloud: GuestCloud) => Promise<unknown>): Promise<void> {
    const cloud = new GuestCloud(data, await startCloud(data, options));
    try {
      await cloud.#setUp(image);
      console.log(JSON.stringify(await story(cloud)));
    } catch (error) {
      console.error(readFileSync(join(data, 'ucloud.log'), 'utf8').slice(-5000));
      throw error;
    } finally {
      await cloud.#cloud.stop();
      await cleanUp(data);
    }
  }

  async #setUp(image: string): Promise<void> {
    await setUpCloud(this.#cloud, this.data, image);
    const { id: prefix } = await this.run('prefix', 'create', '--name', 'site');
    this.#network = (await this.run('network', 'create', '--name', 'web', '--prefix', prefix)).id;
    await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', this.#key]);
    const publicKey = readFileSync(`${this.#key}.pub`, 'utf8').trim();
    await this.run('ssh-key', 'create', '--name', 'me', '--public-key', publicKey);
  }

  get #key(): string {
    return join(this.data, 'key');
  }

  /** Runs a command of ucloud. */
  async run(...args: string[]): Promise<Item> {
    return (await this.#cloud.ucloud(...args)) as unknown as Item;
  }

  /** Ends all processes of the cloud with SIGKILL, except for QEMU. */
  kill(): Promise<void> {
    return this.#cloud.kill();
  }

  /** Starts the cloud after a kill. */
  async start(): Promise<void> {
    this.#cloud = await startCloud(this.data, options);
  }

  /** Creates a VM whose root the story can use. */
  createVm(name: string, ...more: string[]): Promise<Item> {
    return this.run(
      ...['vm', 'create', '--name', name, '--image', 'demo', '--memory', '192MiB', '--ssh-keys', 'me'],
      ...['--interfaces', JSON.stringify([{ network: this.#network }]), '--user-data', rootLogin, ...more],
    );
  }

  /** Waits until the object is as the test expects. The noun is that of the command. */
  reach(noun: string, id: string, reached: (item: Item) => boolean): Promise<Item> {
    return eventually(`${noun} ${id}`, 180_000, async () => {
      const item = await this.#get(noun, id);
      if (item === undefined || !reached(item)) throw new Error(JSON.stringify(item?.status));
      return item;
    });
  }

  /** Deletes the object and waits until it is gone. */
  async remove(noun: string, id: string): Promise<void> {
    await this.run(noun, 'delete', id);
    await eventually(`${noun} ${id} is gone`, 180_000, async () => {
      const item = await this.#get(noun, id);
      if (item) throw new Error(JSON.stringify(item.status));
    });
  }

  async #get(noun: string, id: string): Promise<Item | undefined> {
    return (await this.#cloud.read(`${noun}s/${id}`)) as Item | undefined;
  }

  /** Waits until the guest is ready and lets root in. */
  async ready(vm: Item): Promise<void> {
    await this.reach('vm', vm.id, ({ status }) => status.ready);
    await this.login(vm);
  }

  /** Waits until the guest lets root in. */
  async login(guest: Guest): Promise<void> {
    await eventually('root logs in', 180_000, () => this.inGuest(guest, 'true'));
  }

  /** Starts a command as root in the guest. */
  spawnInGuest({ address }: Guest, command: string): ChildProcess {
    return spawn('ssh', this.#ssh(address, command), { stdio: ['ignore', 'pipe', 'ignore'] });
  }

  /** Runs a command as root in the guest, and returns its output. */
  async inGuest({ address }: Guest, command: string): Promise<string> {
    return (await exec('ssh', this.#ssh(address, command), { maxBuffer: 2 ** 26 })).stdout.trim();
  }

  /** Runs a command as root in the guest, with this input. */
  async feedGuest({ address }: Guest, command: string, input: Buffer): Promise<void> {
    const running = exec('ssh', this.#ssh(address, command));
    running.child.stdin?.end(input);
    await running;
  }

  #ssh(address: string, command: string): string[] {
    const settings = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    // A connection to a guest that is gone ends within some seconds.
    settings.push('ConnectTimeout=5', 'ServerAliveInterval=2', 'ServerAliveCountMax=5');
    return ['-p', '2222', '-i', this.#key, ...settings.flatMap((each) => ['-o', each]), `root@${address}`, command];
  }

  /** Returns the path of the volume's device in the guest. */
  deviceOf(guest: Guest, volume: string): Promise<string> {
    const command = `cd /sys/block; for d in vd*; do [ "$(cat $d/serial)" = ${volume} ] && echo $d; done; true`;
    return eventually('the guest has the volume', 60_000, async () => {
      const name = await this.inGuest(guest, command);
      if (name === '') throw new Error('not yet');
      return `/dev/${name}`;
    });
  }
}
