/** Programs whose output is delivered, and which hang or fail. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { programOutput } from '../../backend/host/system/program-output.ts';

const start = (program: string, ...args: string[]) => spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });

t.test('the output of a program is complete, or an error', async (t) => {
  t.equal((await buffer(programOutput(start('head', '--bytes=3000000', '/dev/zero')))).length, 3_000_000);
  await t.rejects(buffer(programOutput(start('sh', '-c', 'echo part; echo broken >&2; exit 3'))), /code 3: broken/);
  await t.rejects(buffer(programOutput(start('/nonexistent/program'))), /ENOENT/);
});

t.test('a program that hangs ends with its stream', async (t) => {
  const silent = start('sleep', '600');
  const abort = new AbortController();
  const nothing = new Writable({ write: (_chunk, _encoding, done) => done() });
  const delivery = pipeline(programOutput(silent), nothing, { signal: abort.signal });
  abort.abort();
  await t.rejects(delivery, { name: 'AbortError' });
  if (silent.exitCode === null && silent.signalCode === null) await once(silent, 'close');
  t.equal(silent.signalCode, 'SIGKILL');

  const endless = start('yes');
  const unread = programOutput(endless);
  unread.destroy();
  if (endless.signalCode === null) await once(endless, 'close');
  t.equal(endless.signalCode, 'SIGKILL', 'also if nobody has read it');
});
