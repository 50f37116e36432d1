/** An image scanner in its own process, which tests can kill: node scanner-process.ts STORE FILES IMAGES */
import { startImageScanner } from '../../backend/scanner/images.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { silentLogger } from './silent-logger.ts';

const [path = '', filesDir = '', imageStore = ''] = process.argv.slice(2);
const store = await openEmbeddedStore({ path });
const logger = silentLogger;
await startImageScanner({ store, logger, filesDir, imageStore, allowPrivateAddresses: true, leaseTtl: 1 });
