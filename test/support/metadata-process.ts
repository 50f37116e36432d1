/**
 * A metadata server with its own store, in its own process, which can run in a network namespace. The process answers
 * { commit } and { get } over IPC with { id, result }, and sends { ready: true } after its start.
 */

import { startMetadata } from '../../backend/metadata/start.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import type { Commit } from '../../backend/store/store.ts';
import { silentLogger } from './silent-logger.ts';

type Request = { readonly id: number } & (
  | { readonly commit: Commit }
  | { readonly get: string }
  | { readonly list: string }
);

const [hostId = ''] = process.argv.slice(2);
const store = await openEmbeddedStore({ path: ':memory:' });
const metadata = await startMetadata({ store, logger: silentLogger, hostId: idFrom('host', hostId) });

const answer = (request: Request): Promise<unknown> => {
  if ('commit' in request) return store.commit(request.commit);
  return 'get' in request ? store.get(request.get) : store.list(request.list);
};
process.on('message', (request: Request) => {
  answer(request).then((result) => process.send?.({ id: request.id, result }));
});
process.on('disconnect', async () => {
  await metadata.close();
  await store.close();
});
process.send?.({ ready: true });
