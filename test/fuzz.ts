/** A long run of the fuzz: `npm run fuzz -- [requests] [seed]`. Prints what was answered and every fault. */
import { fuzz } from './support/http-fuzz.ts';

const [count = '100000', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
const started = performance.now();
const { requests, statuses, faults } = await fuzz(Number(count), Number(seed));
const seconds = Math.round((performance.now() - started) / 1000);
console.log(`${requests} requests in ${seconds} s, seed ${seed}; answers by status:`, statuses);
for (const fault of new Set(faults)) console.log(fault.slice(0, 3000));
console.log(`${faults.length} faults`);
process.exitCode = faults.length === 0 ? 0 : 1;
