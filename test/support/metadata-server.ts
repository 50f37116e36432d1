/** Starts a metadata server in a network namespace, and gives tests access to its store. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import type { Commit, CommitResult, Entry, Page } from '../../backend/store/store.ts';
import type { NetNamespace } from './net-namespace.ts';

export class MetadataServer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (result: unknown) => void>();
  #last = 0;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', ({ id, result }: { id?: number; result?: unknown }) => {
      if (id !== undefined) this.#waiting.get(id)?.(result);
    });
  }

  #ask(request: object): Promise<unknown> {
    const id = ++this.#last;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.send({ id, ...request });
    });
  }

  commit(commit: Commit): Promise<CommitResult> {
    return this.#ask({ commit }) as Promise<CommitResult>;
  }

  get(key: string): Promise<Entry | undefined> {
    return this.#ask({ get: key }) as Promise<Entry | undefined>;
  }

  list(prefix: string): Promise<Page> {
    return this.#ask({ list: prefix }) as Promise<Page>;
  }
}

/** Starts a metadata server, which ends with the test. */
export async function metadataServer(t: Test, namespace: NetNamespace, hostId: string): Promise<MetadataServer> {
  const script = new URL('metadata-process.ts', import.meta.url).pathname;
  const child = namespace.spawn(process.execPath, [script, hostId], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const exited = once(child, 'exit');
  t.teardown(async () => {
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
    await exited;
    clearTimeout(timer);
  });
  const server = new MetadataServer(child);
  await Promise.race([
    once(child, 'message'),
    exited.then(() => Promise.reject(new Error('the metadata server did not start'))),
  ]);
  return server;
}
