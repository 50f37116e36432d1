/**
 * Writes a seed disk and dies by SIGKILL before one of the programs: `node killed-seed.ts <path> <program>`.
 */
import { writeSeedDisk } from '../../backend/host/storage/seed-disk.ts';
import { run } from '../../backend/host/system/command.ts';
import { testSeed } from './seeds.ts';

const [path = '', last = ''] = process.argv.slice(2);
await writeSeedDisk(
  async (program, args) => {
    if (program === last) process.kill(process.pid, 'SIGKILL');
    return run(program, args);
  },
  path,
  testSeed(),
);
