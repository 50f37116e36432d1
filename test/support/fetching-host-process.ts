/**
 * The agent of a host in its own process, with simulated VMs and real images: node fetching-host-process.ts STORE DATA
 * [STEP]. With STEP, the process kills itself at this step of the first fetch. It prints the bytes of each fetch.
 */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { createSimulatedHypervisor } from '../../backend/host/hypervisor/simulated.ts';
import { ImageFiles } from '../../backend/host/images/image-files.ts';
import { startHost } from '../../backend/host/start.ts';
import type { Logger } from '../../backend/model/component.ts';
import { fast } from './image-transfer.ts';
import { silentLogger } from './silent-logger.ts';
import { capacity } from './simulated-host.ts';
import { openSharedStore } from './store-socket.ts';

const [path = '', dataDir = '', deadlyStep] = process.argv.slice(2);
const store = await openSharedStore(path);
const logger: Logger = {
  ...silentLogger,
  info: (fields, message) => {
    if (message === 'image fetched') console.log(JSON.stringify(fields));
  },
  child: () => logger,
};
const hypervisor = createSimulatedHypervisor({ dataDir, capacity, bootMs: 1, readyMs: 1, shutdownMs: 1 });
const host = await startHost({
  ...{ store, logger, hypervisor, dataDir, name: 'fetching', version: '0', leaseSeconds: 2, retryMs: 10 },
  images: {
    files: new ImageFiles(join(dataDir, 'none'), join(dataDir, 'images')),
    limits: { ...fast, rateWindowMs: 30_000 },
    onStep: (step) => {
      if (step === deadlyStep) process.kill(process.pid, 'SIGKILL');
    },
  },
});
writeSync(1, `${host.id}\n`);
