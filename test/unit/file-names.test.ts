/** Names of files as text. */
import fc from 'fast-check';
import t from 'tap';
import { brokenNameRule, bytesOfName, escapeName } from '../../backend/model/file/name-text.ts';
import { fileId } from '../../backend/model/file/names.ts';
import { newId } from '../../backend/model/ids.ts';

t.test('a name has one text, and the text gives the name', async (t) => {
  const pieces = fc
    .constantFrom('%', '%41', 'é', '中', '\u202e', '\n', '\u0085', '😀', 'a')
    .map((text) => Buffer.from(text));
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 8 }).map((array) => Buffer.from(array));
  const names = fc.array(fc.oneof(pieces, bytes), { minLength: 1, maxLength: 8 }).map((parts) => Buffer.concat(parts));
  fc.assert(
    fc.property(names, (name) => {
      const text = escapeName(name);
      return bytesOfName(text).equals(name) && /^[^\p{Cc}\u202a-\u202e]*$/u.test(text) && text.isWellFormed();
    }),
  );
  t.end();
});

t.test('the text of a name', async (t) => {
  for (const [bytes, text] of [
    [Buffer.from('debian 13.qcow2'), 'debian 13.qcow2'],
    [Buffer.from('100%.raw'), '100%25.raw'],
    [Buffer.from('b\xe4r.raw', 'latin1'), 'b%E4r.raw'],
    [Buffer.from('bär.raw'), 'bär.raw'],
    [Buffer.from('a\nb\x1b[31m'), 'a%0Ab%1B[31m'],
    [Buffer.from('\u202egnp.raw'), '%E2%80%AEgnp.raw'],
    [Buffer.from([0xed, 0xa0, 0x80]), '%ED%A0%80'],
    [Buffer.from([0xef, 0xbb, 0xbf, 0x61]), '%EF%BB%BFa'],
  ] as const)
    t.equal(escapeName(bytes), text);
});

t.test('all sequences of two bytes are escaped as a decoder would', async (t) => {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  const isText = (bytes: Uint8Array) => {
    try {
      return utf8.decode(bytes) !== '';
    } catch {
      return false;
    }
  };
  const wrong: string[] = [];
  // The third byte decides nothing about the first two, and 0x80 completes most sequences.
  for (let first = 0x80; first <= 0xff; first++)
    for (let second = 0x80; second <= 0xff; second++) {
      for (const tail of [[], [0x80], [0x80, 0x80]]) {
        const bytes = Buffer.from([0xff, first, second, ...tail]);
        const whole = isText(bytes.subarray(1)) && [...utf8.decode(bytes.subarray(1))].length === 1;
        // The first code points of some blocks are control characters, which have an escape as well.
        if (!whole && escapeName(bytes) === `%FF${bytes.subarray(1).toString()}`) wrong.push(bytes.toString('hex'));
        if (!bytesOfName(escapeName(bytes)).equals(bytes)) wrong.push(bytes.toString('hex'));
        const text = bytes.subarray(1).toString();
        if (whole && escapeName(bytes) !== `%FF${escapeName(Buffer.from(text))}`) wrong.push(bytes.toString('hex'));
      }
    }
  t.same(wrong, []);
});

t.test('a name of wrong bytes takes no longer than others', async (t) => {
  const name = Buffer.alloc(255, 0xff);
  const started = performance.now();
  for (let i = 0; i < 1000; i++) escapeName(name);
  // A decoder that throws took 3 ms for each name.
  t.ok(performance.now() - started < 1000, `${performance.now() - started} ms`);
});

t.test('names for new files', async (t) => {
  for (const name of ['a', 'é.raw', '100%.raw', 'x'.repeat(255)]) t.equal(brokenNameRule(name), undefined, name);
  for (const name of ['', '.', '..', '.hidden', 'a/b', 'a\0b', 'a\nb', '\u202ea', 'é'.repeat(128), '\ud800'])
    t.type(brokenNameRule(name), 'string', JSON.stringify(name));
});

t.test('an id depends on server, project and name', async (t) => {
  const [one, two] = [newId('file_server'), newId('file_server')];
  const project = newId('project');
  const name = Buffer.from('a');
  t.match(fileId(one, project, name), /^file-[0-9a-hjkmnp-tv-z]{16}$/);
  t.equal(fileId(one, project, name), fileId(one, project, name));
  t.equal(
    new Set([fileId(one, project, name), fileId(two, project, name), fileId(one, newId('project'), name)]).size,
    3,
  );
});
