/** An API with a file scanner in its own process, which tests can kill: node upload-process.ts STORE FILES */
import { startApi } from '../../backend/api/start.ts';
import { startFileScanner } from '../../backend/filescanner/start.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { silentLogger as logger } from './silent-logger.ts';

const [path = '', root = ''] = process.argv.slice(2);
const store = await openEmbeddedStore({ path });
const limits = { quietMs: 200, intervalMs: 300, pauseMs: 20 };
await startFileScanner({ store, logger, root, name: 'files1', leaseTtl: 1, limits });
const api = await startApi({ store, logger, listen: { host: '::1', port: 0 }, filesDir: root });
process.send?.({ url: api.url });
process.on('message', () => process.send?.({ rss: process.memoryUsage().rss }));
