/** An image scanner in its own process, which tests can kill: node scanner-process.ts STORE FILES IMAGES [LISTEN] */
import { startImageScanner } from '../../backend/scanner/images.ts';
import { silentLogger } from './silent-logger.ts';
import { openSharedStore } from './store-socket.ts';

const [path = '', filesDir = '', imageStore = '', host] = process.argv.slice(2);
const store = await openSharedStore(path);
const logger = silentLogger;
await startImageScanner({
  ...{ store, logger, filesDir, imageStore, allowPrivateAddresses: true, leaseTtl: host === undefined ? 1 : 3 },
  ...(host !== undefined && { listen: { host, port: 0 } }),
});
