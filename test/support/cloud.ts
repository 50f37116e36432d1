/**
 * A whole cloud and the provider in this process, on simulated hosts. Terraform is the only other process. Tests can observe
 * every request of the provider.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { startFileScanner } from '../../backend/filescanner/start.ts';
import {
  createSimulatedHypervisor,
  type SimulatedHypervisor,
  type SimulatedOptions,
} from '../../backend/host/hypervisor/simulated.ts';
import { startSimulatedHosts } from '../../backend/host/simulated-fleet.ts';
import { startHost } from '../../backend/host/start.ts';
import type { Component } from '../../backend/model/component.ts';
import { startImageScanner } from '../../backend/scanner/images.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { reattach } from '../../provider/framework/index.ts';
import { provider } from '../../provider/provider.ts';
import { type ApiClient, startTestApi, type TestApi, type TestApiOptions } from './api.ts';
import { rawDisk } from './disk-images.ts';
import { silentLogger as logger } from './silent-logger.ts';
import { temporaryDirectory, withStore } from './stores.ts';
import { TerraformDirectory } from './terraform.ts';

export const GiB = 2 ** 30;

export interface TestCloud {
  readonly api: TestApi;
  /** A client with the role `member` in the project of the provider. */
  readonly member: ApiClient;
  readonly project: Id<'project'>;
  /** The hypervisor of the first host. */
  readonly hypervisor: SimulatedHypervisor;
  /** The directory with a directory of files for each project. */
  readonly filesDir: string;
  /** Writes the file `file:<name>` of a project. Default: a small disk. */
  file(project: string, name: string, content?: Uint8Array): void;
  /** The image scanner. After its stop, images stay unchanged. */
  readonly scanner: { start(): Promise<void>; stop(): Promise<void> };
  /** Waits until the project has an object of this name below the path (`/v1/vms`), and returns its id. */
  appears(path: string, name: string): Promise<string>;
  /** The value of `TF_REATTACH_PROVIDERS` for the provider in this process. */
  readonly reattach: string;
  /** Returns a directory with these files and the provider block. The test removes it at its end. */
  terraform(t: Test, files: Readonly<Record<string, string>>): TerraformDirectory;
  /** Returns a directory with this `main.tf` and the provider block. */
  configuration(t: Test, main: string): TerraformDirectory;
}

export interface TestCloudOptions extends TestApiOptions {
  /** The resources of a host. */
  readonly capacity?: { readonly cpus: number; readonly memory: number; readonly disk: number };
  readonly readyMs?: number;
  /** Called before each step of the first host's hypervisor. The step fails with the error that it throws. */
  readonly fault?: SimulatedOptions['fault'];
  /** The space of the storage pools for the first host. Default: 10 TiB each. */
  readonly pools?: SimulatedOptions['pools'];
  /** The delay before the first retry of a step on the first host, in milliseconds. */
  readonly retryMs?: number;
  readonly hostName?: string;
  /** The number of further hosts with the same resources. */
  readonly moreHosts?: number;
  /** True for an API that takes uploads, with a file scanner. */
  readonly fileServer?: boolean;
}

export const providerBlock = readFileSync('provider/examples/provider/provider.tf', 'utf8');

export async function startTestCloud(t: Test, options: TestCloudOptions = {}): Promise<TestCloud> {
  const {
    capacity = { cpus: 1024, memory: 1024 * GiB, disk: 100_000 * GiB },
    readyMs,
    fault,
    pools,
    retryMs,
    hostName = 'rack1-node1',
    moreHosts = 0,
    fileServer = false,
    ...apiOptions
  } = options;
  const store = apiOptions.store ?? (await withStore(t));
  const data = temporaryDirectory(t);
  const scheduler = await startScheduler({ store, logger });
  t.teardown(() => scheduler.close());
  const startScanner = () =>
    startImageScanner({
      store,
      logger,
      filesDir: join(data, 'files'),
      imageStore: join(data, 'images'),
      mode: 'simulated',
      listen: { host: '::1', port: 0 },
    });
  let scanner: Component | undefined = await startScanner();
  const stopScanner = async () => {
    await scanner?.close();
    scanner = undefined;
  };
  t.teardown(stopScanner);
  const hypervisor = createSimulatedHypervisor({
    dataDir: join(data, 'host'),
    capacity,
    ...(readyMs !== undefined && { readyMs }),
    ...(fault !== undefined && { fault }),
    ...(pools !== undefined && { pools }),
  });
  const host = await startHost({
    store,
    logger,
    hypervisor,
    dataDir: join(data, 'host'),
    name: hostName,
    version: '0.0.0',
    ...(retryMs !== undefined && { retryMs }),
  });
  t.teardown(async () => {
    await host.close();
    await hypervisor.close();
  });
  const fleet = { count: moreHosts, capacity, ...(readyMs !== undefined && { readyMs }) };
  const others = await startSimulatedHosts({ store, logger, dataDir: join(data, 'hosts'), version: '0.0.0', ...fleet });
  t.teardown(() => others.close());
  const filesDir = join(data, 'files');
  const api = await startTestApi(t, { ...apiOptions, ...(fileServer && { filesDir }), store });

  const { operator } = api;
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/36' });
  const file = (owner: string, name: string, content: Uint8Array = rawDisk()) => {
    mkdirSync(join(filesDir, owner), { recursive: true });
    writeFileSync(join(filesDir, owner, name), content);
  };
  file(api.project, 'demo.qcow2');
  let image = await operator.create('images', {
    name: 'demo',
    project: api.project,
    source: 'file:demo.qcow2',
    visibility: 'public',
  });
  while (image.status.phase !== 'available') {
    if (image.status.phase === 'error') throw new Error(`the image is not imported: ${image.status.message}`);
    image = await operator.get('images', image.id, `?after=${image.revision}`);
  }
  if (fileServer) {
    const limits = { quietMs: 100, intervalMs: 300, pauseMs: 20 };
    const scanner = await startFileScanner({ store, logger, root: filesDir, name: 'files1', leaseTtl: 1, limits });
    t.teardown(() => scanner.close());
  }
  const project = (await operator.create('projects', { name: 'test' })).id as Id<'project'>;
  const member = await api.member(project);
  asked(t, {
    UCLOUD_ENDPOINT: api.url,
    UCLOUD_TOKEN: member.token,
    UCLOUD_CREDENTIALS: join(data, 'credentials.json'),
    UCLOUD_PROJECT: undefined,
  });
  const reattached = await reattach(provider, process.env.UCLOUD_TEST_LOG ? console.error : undefined);
  t.teardown(() => reattached.close());

  const terraform = (test: Test, files: Readonly<Record<string, string>>) => {
    const directory = new TerraformDirectory(
      { 'provider.tf': providerBlock, ...files },
      { reattach: reattached.environmentValue },
    );
    test.teardown(() => directory.remove());
    return directory;
  };
  return {
    api,
    member,
    project,
    hypervisor,
    filesDir,
    file,
    scanner: {
      async start() {
        scanner ??= await startScanner();
      },
      stop: stopScanner,
    },
    async appears(path, name) {
      for (let revision = 0; ; ) {
        const list = await member.list(path.replace('/v1/', ''), `?name=${name}&after=${revision}&timeout=5`);
        const [found] = list.items;
        if (found) return found.id;
        revision = list.revision;
      }
    },
    reattach: reattached.environmentValue,
    terraform,
    configuration: (test, main) => terraform(test, { 'main.tf': main }),
  };
}

/** Sets environment variables of this process until the end of the test. The provider runs in this process. */
export function asked(t: Test, variables: Readonly<Record<string, string | undefined>>): void {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  const set = (name: string, value: string | undefined) => {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  for (const [name, value] of Object.entries(variables)) set(name, value);
  t.teardown(() => {
    for (const [name, value] of before) set(name, value);
  });
}
