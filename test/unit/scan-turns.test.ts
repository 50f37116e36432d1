/** The turns of scans and readings. */
import { setImmediate as immediate } from 'node:timers/promises';
import t from 'tap';
import { Turns, type Wait, type Work } from '../../backend/filescanner/turns.ts';
import type { Logger } from '../../backend/model/component.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';

const logger = silentLogger as Logger;

async function* steps(name: string, count: number, log: string[]): Work {
  for (let i = 0; i < count; i++) {
    log.push(name);
    await immediate();
    yield;
  }
}

t.test('long work does not hold up short work', async (t) => {
  const ending = new AbortController();
  const turns = new Turns({ logger, signal: ending.signal });
  const log: string[] = [];
  turns.add('long', () => steps('long', 1000, log));
  turns.add('short', () => steps('short', 3, log));
  await until('the short work is done', () => !turns.has('short'));
  t.ok(log.lastIndexOf('short') < 10, 'the two take turns');
  ending.abort();
  await turns.end();
});

t.test('work that waits takes no turns, and goes on afterwards', async (t) => {
  const ending = new AbortController();
  const turns = new Turns({ logger, signal: ending.signal });
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  async function* waiting(): AsyncGenerator<Wait, void> {
    log.push('waits');
    yield { until: gate.promise };
    log.push('goes on');
  }
  turns.add('waiting', waiting);
  turns.add('other', () => steps('other', 3, log));
  await until('the other work is done', () => !turns.has('other'));
  t.ok(turns.has('waiting'));
  t.notOk(log.includes('goes on'));
  gate.resolve();
  await until('all is done', () => !turns.has('waiting'));
  t.equal(log.at(-1), 'goes on');
  await turns.end();
});

t.test('the number of open pieces of work has a limit', async (t) => {
  const ending = new AbortController();
  const turns = new Turns({ logger, signal: ending.signal, maxOpen: 2 });
  let open = 0;
  let most = 0;
  async function* counted(): Work {
    most = Math.max(most, ++open);
    for (let i = 0; i < 3; i++) {
      await immediate();
      yield;
    }
    open--;
  }
  for (let i = 0; i < 10; i++) turns.add(`${i}`, counted);
  await until('all is done', () => !Array.from({ length: 10 }, (_, i) => turns.has(`${i}`)).includes(true));
  t.equal(most, 2);
  t.equal(open, 0);
});

t.test('the end ends waiting work', async (t) => {
  const ending = new AbortController();
  const turns = new Turns({ logger, signal: ending.signal });
  let ended = false;
  turns.add('stuck', async function* () {
    try {
      yield { until: new Promise(() => undefined) };
    } finally {
      ended = true;
    }
  });
  await until('it waits', () => turns.has('stuck'));
  ending.abort();
  await turns.end();
  t.ok(ended);
});
