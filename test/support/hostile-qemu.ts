/**
 * A process that replaces QEMU, like a QEMU under the control of its guest. A file contains its instructions. The process is
 * honest until its guest executes:
 *
 *     hostile-qemu.ts <file with { attack, title }> <QEMU's arguments>
 *
 * `attack` is one of hostile-qmp.ts, or `honest`. With `title`, the process then overwrites its command line. It writes the
 * names of the received commands to the file with the suffix `.log`, if it exists and is writable.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { attacks, honest } from './hostile-qmp.ts';

interface Plan {
  readonly attack: string;
  readonly title?: string;
}

const [plan = '', ...args] = process.argv.slice(2);
const { attack, title } = JSON.parse(readFileSync(plan, 'utf8')) as Plan;
let executes = args.includes('--running');

const listenTo = (id: string, serve: Parameters<typeof createServer>[1]): void => {
  const chardev = args.find((arg) => arg.startsWith(`socket,id=${id},`)) ?? '';
  const [, kind, value = ''] = /,(fd|path)=([^,]+)/.exec(chardev) ?? [];
  createServer(serve).listen(kind === 'fd' ? { fd: Number(value) } : { path: value });
};

listenTo('serial', (socket) => {
  socket.on('error', () => undefined);
});
listenTo('qmp', (socket) => {
  socket.on('error', () => undefined);
  socket.on('data', (data) => {
    for (const [, command] of data.toString().matchAll(/"execute":"([\w-]+)"/g)) {
      if (existsSync(`${plan}.log`)) appendFileSync(`${plan}.log`, `${command}\n`);
      if (command !== 'query-status' || executes) continue;
      // The honest answer is that the guest executes. From then on, the process follows its instructions.
      executes = true;
      if (title !== undefined) process.title = title;
      if (attack !== 'honest') setImmediate(() => socket.end());
    }
  });
  const act = executes ? attacks[attack] : undefined;
  (act ?? honest)(socket);
});
