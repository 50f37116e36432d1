/** A cloud for measurements of its clients: `ucloud up` on simulated hosts, in its own process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiClient } from '../../test/support/api.ts';
import { rawDisk } from '../../test/support/disk-images.ts';
import { imageAndNetwork, vmBlock } from '../../test/support/hcl.ts';

/** A running cloud. */
export interface Cloud {
  readonly endpoint: string;
  readonly token: string;
  readonly project: string;
  stop(): Promise<void>;
}

/** Starts `ucloud up` on simulated hosts, with a prefix pool and an image. */
export async function startCloud(directory: string): Promise<Cloud> {
  const credentials = join(directory, 'operator.json');
  const args = [
    'up',
    '--hypervisor',
    'simulated',
    '--listen',
    '[::1]:0',
    '--data',
    directory,
    '--credentials',
    credentials,
  ];
  const child: ChildProcess = spawn('backend/cli/ucloud', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout?.on('data', (text: Buffer) => {
    output += text;
  });
  const up = new Promise<void>((resolve) => {
    child.stdout?.on('data', () => output.includes('ucloud is up') && resolve());
  });
  await Promise.race([up, once(child, 'exit').then(() => Promise.reject(new Error(`ucloud ended:\n${output}`)))]);
  const { endpoint, token, project } = JSON.parse(readFileSync(credentials, 'utf8')) as Cloud;
  const operator = new ApiClient(endpoint, token);
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/36' });
  mkdirSync(join(directory, 'files', project), { recursive: true });
  writeFileSync(join(directory, 'files', project, 'demo.raw'), rawDisk());
  let image = await operator.create('images', { name: 'demo', project, source: 'file:demo.raw', visibility: 'public' });
  while (image.status.phase !== 'available') image = await operator.get('images', image.id, `?after=${image.revision}`);
  return {
    endpoint,
    token,
    project,
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Returns a Terraform configuration of VMs on one network. */
export const vmConfiguration = (count: number): string =>
  readFileSync('provider/examples/provider/provider.tf', 'utf8') +
  imageAndNetwork({ name: 'bench' }) +
  vmBlock('this', `count = ${count}`, `"vm-\${count.index}"`);
