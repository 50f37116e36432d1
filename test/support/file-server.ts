/** A file server with its scanner and a client of the project. */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type FileScannerOptions, startFileScanner } from '../../backend/filescanner/start.ts';
import type { Component, Logger } from '../../backend/model/component.ts';
import type { ApiClient, Body, TestApi } from './api.ts';
import { until } from './eventually.ts';
import { silentLogger } from './silent-logger.ts';
import { temporaryDirectory } from './stores.ts';

/** A file as the API shows it. */
export interface FileBody extends Omit<Body, 'size'> {
  readonly size: number;
  readonly sha256: string;
  readonly server: string;
}

export const sha256Of = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');

/** Returns the files of the project, by name. */
export async function filesOf(client: ApiClient, project: string): Promise<Map<string, FileBody>> {
  const { items } = await client.list('files', `?project=${project}&limit=1000`);
  return new Map((items as unknown as FileBody[]).map((file) => [file.name, file]));
}

export interface TestFileServer {
  readonly root: string;
  /** The directory of the project. It exists. */
  readonly directory: string;
  readonly server: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Waits until the project has the file, with this content if it is given, and returns it. */
  appears(name: string, content?: string | Uint8Array): Promise<FileBody>;
  vanishes(name: string): Promise<void>;
}

/** Starts a file server for the default project. */
export async function startTestFileServer(
  t: Test,
  { store, operator, project }: TestApi,
  options: Partial<FileScannerOptions> = {},
): Promise<TestFileServer> {
  const root = options.root ?? join(temporaryDirectory(t), 'files');
  let running: (Component & { readonly server: string }) | undefined;
  const start = async () => {
    running ??= await startFileScanner({
      store,
      logger: silentLogger as Logger,
      root,
      name: 'files1',
      leaseTtl: 1,
      ...options,
      limits: { quietMs: 100, intervalMs: 300, pauseMs: 20, ...options.limits },
    });
  };
  const stop = async () => {
    await running?.close();
    running = undefined;
  };
  await start();
  t.teardown(stop);
  const directory = join(root, project);
  mkdirSync(directory, { recursive: true });
  const server = running?.server ?? '';
  const sameServer = (file: FileBody | undefined) => (file?.server === server ? file : undefined);
  const find = async (name: string) => {
    const { items } = await operator.list('files', `?project=${project}&name=${encodeURIComponent(name)}`);
    return (items as unknown as FileBody[]).find(sameServer);
  };
  return {
    root,
    directory,
    server,
    start,
    stop,
    appears: (name, content) =>
      until(`the file ${name}`, async () => {
        const file = await find(name);
        return content === undefined || file?.sha256 === sha256Of(content) ? file : undefined;
      }),
    async vanishes(name) {
      await until(`the end of ${name}`, async () => (await find(name)) === undefined);
    },
  };
}
