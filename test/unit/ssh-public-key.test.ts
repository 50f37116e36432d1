/** Public keys are taken when OpenSSH takes them, and only then. */
import { execFileSync, spawnSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { sshPublicKeyProblem } from '../../backend/model/text/ssh-public-key.ts';
import { flawsOf } from '../../provider/derive/rules.ts';
import { schemaOf } from '../../provider/schema/resources.gen.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip =
  spawnSync('ssh-keygen', ['-?']).error === undefined ? false : 'SKIPPED: ssh-keygen is not installed (openssh-client)';
if (skip && process.env.CI === 'true') throw new Error(skip);

const string = (bytes: Uint8Array | string): Buffer => {
  const content = Buffer.from(bytes as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  return Buffer.concat([length, content]);
};
const integer = (base64url: string): Buffer => {
  const bytes = Buffer.from(base64url, 'base64url');
  return string((bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes);
};
const part = (key: KeyObject, name: 'x' | 'y' | 'n' | 'e'): string => key.export({ format: 'jwk' })[name] ?? '';

const point = (key: KeyObject): Buffer =>
  Buffer.concat([Buffer.from([4]), ...(['x', 'y'] as const).map((name) => Buffer.from(part(key, name), 'base64url'))]);

/** A key of each type, as type and blob. */
function goodKeys(): [type: string, blob: Buffer][] {
  const ed25519 = Buffer.from(part(generateKeyPairSync('ed25519').publicKey, 'x'), 'base64url');
  const ec = (namedCurve: string) => point(generateKeyPairSync('ec', { namedCurve }).publicKey);
  const rsa = (modulusLength: number) => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength });
    return [integer(part(publicKey, 'e')), integer(part(publicKey, 'n'))];
  };
  const p256 = ec('P-256');
  const fields: [string, Buffer[]][] = [
    ['ssh-ed25519', [string(ed25519)]],
    ['ssh-rsa', rsa(1024)],
    ['ssh-rsa', rsa(2048)],
    ['ecdsa-sha2-nistp256', [string('nistp256'), string(p256)]],
    ['ecdsa-sha2-nistp384', [string('nistp384'), string(ec('P-384'))]],
    ['ecdsa-sha2-nistp521', [string('nistp521'), string(ec('P-521'))]],
    ['sk-ssh-ed25519@openssh.com', [string(ed25519), string('ssh:')]],
    ['sk-ecdsa-sha2-nistp256@openssh.com', [string('nistp256'), string(p256), string('ssh:')]],
  ];
  return fields.map(([type, parts]) => [type, Buffer.concat([string(type), ...parts])]);
}

const lineOf = (type: string, blob: Uint8Array): string => `${type} ${Buffer.from(blob).toString('base64')}`;

t.test('a key is taken when ssh-keygen takes it, and only then', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  /** Returns the indexes of the keys for which ssh-keygen prints a fingerprint. */
  const takenBySsh = (lines: readonly string[]): Set<number> => {
    const file = join(directory, 'keys.pub');
    writeFileSync(file, lines.map((line, index) => `${line} place-${index}\n`).join(''));
    const { stdout } = spawnSync('ssh-keygen', ['-lf', file], { encoding: 'utf8' });
    return new Set([...stdout.matchAll(/ place-(\d+) \(/g)].map((match) => Number(match[1])));
  };
  const keys = goodKeys();
  const types = [...new Set(keys.map(([type]) => type))];
  const damaged = fc.constantFrom(...keys).chain(([type, blob]) =>
    fc.oneof(
      fc.nat({ max: blob.length }).map((end) => lineOf(type, blob.subarray(0, end))),
      fc.uint8Array({ minLength: 1, maxLength: 8 }).map((more) => lineOf(type, Buffer.concat([blob, more]))),
      fc.tuple(fc.nat({ max: blob.length - 1 }), fc.nat({ max: 255 })).map(([at, byte]) => {
        const copy = Buffer.from(blob);
        copy[at] = byte;
        return lineOf(type, copy);
      }),
      fc.constantFrom(...types).map((other) => lineOf(other, blob)),
      fc.nat({ max: 200 }).map((end) => lineOf(type, blob).slice(0, -1 - end)),
      fc
        .tuple(fc.nat({ max: blob.length }), fc.uint8Array({ minLength: 1, maxLength: 4 }))
        .map(([at, more]) => lineOf(type, Buffer.concat([blob.subarray(0, at), more, blob.subarray(at)]))),
    ),
  );
  const sizes = [1023, 1024, 1025, 16384, 16385, 16392].flatMap((bits) => {
    const modulus = Buffer.alloc(Math.ceil(bits / 8), 0xff);
    modulus[0] = 0xff >> ((8 - (bits % 8)) % 8);
    const number = bits % 8 === 0 ? Buffer.concat([Buffer.alloc(1), modulus]) : modulus;
    return [number, Buffer.concat([Buffer.alloc(2), number]), modulus].map((n) =>
      lineOf('ssh-rsa', Buffer.concat([string('ssh-rsa'), integer('AQAB'), string(n)])),
    );
  });
  const odd = [
    lineOf('ssh-ed25519', Buffer.concat([string('ssh-ed25519\0'), string(Buffer.alloc(32))])),
    lineOf('sk-ssh-ed25519@openssh.com', Buffer.concat([...[...'ab'].map(string)])),
    'ssh-ed25519 AAAA',
    'ssh-ed25519 ====',
    'ssh-dss AAAAB3NzaC1kc3M=',
  ];
  const lines = [
    ...keys.map(([type, blob]) => lineOf(type, blob)),
    ...sizes,
    ...odd,
    ...fc.sample(damaged, 3000).map((line) => line.trim()),
  ].filter((line) => line.includes(' '));
  const taken = takenBySsh(lines);
  const different = lines
    .map((line, index) => ({ line, ssh: taken.has(index), problem: sshPublicKeyProblem(line) }))
    .filter(({ ssh, problem }) => ssh !== (problem === undefined));
  t.strictSame(different.slice(0, 3), []);
  for (const index of keys.keys()) t.ok(taken.has(index), `${keys[index]?.[0]} is taken`);
  t.ok(lines.length - taken.size > 1000, 'and many are not');
});

t.test('the file that ssh-keygen writes is taken as it is, its line end included', { skip }, async (t) => {
  const file = join(temporaryDirectory(t), 'id');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'me@example', '-f', file]);
  const text = readFileSync(`${file}.pub`, 'utf8');
  t.match(text, /\n$/);
  for (const spelled of [text, text.trim(), `  ${text}\r\n`, `${text}\n`]) {
    t.equal(sshPublicKeyProblem(spelled), undefined, JSON.stringify(spelled.slice(-4)));
  }
  t.match(sshPublicKeyProblem(readFileSync(file, 'utf8')), /not a PEM file/, 'the private half is not');
  t.match(sshPublicKeyProblem(text + text), /line break/, 'nor are two keys');
});

t.test('a plan and the API say the same of a key', async (t) => {
  const field = schemaOf('ssh_key').fields.public_key;
  if (!field) throw new Error('SSH keys have no public key');
  for (const text of [
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAZf1bG5vLKW3obp',
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7TAAAA',
    'ssh-dss AAAAB3NzaC1kc3M=',
    'no key',
    '',
  ]) {
    const problem = sshPublicKeyProblem(text);
    t.match(
      flawsOf(field, text),
      [
        {
          problem: new RegExp(
            String(problem)
              .slice(0, 60)
              .replace(/[()|$]/g, '.'),
            // A diagnostic of the plan is a sentence.
            'i',
          ),
        },
      ],
      text,
    );
  }
});

t.test('long input is judged in no time', async (t) => {
  const start = performance.now();
  for (const text of [' '.repeat(16384), `ssh-ed25519 ${' '.repeat(16300)}\n\u0001`, `ssh-rsa ${'A'.repeat(16300)}`]) {
    t.type(sshPublicKeyProblem(text), 'string');
  }
  t.ok(performance.now() - start < 1000);
});
