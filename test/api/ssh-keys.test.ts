/** An SSH key, from its creation to its end. */
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { otherPublicKey, testPublicKey } from '../support/ssh-keys.ts';

t.test('an SSH key', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const key = await member.create('ssh-keys', { name: 'alice', public_key: testPublicKey });
  t.equal(key.fingerprint, 'SHA256:l7xkKioszelBEcKA/5du+vi64xlSepJOs27r/KeAgNk', 'as ssh-keygen -l prints it');
  const wrong = testPublicKey.replace('ssh-ed25519', 'ssh-rsa');
  t.match(await member.request('POST', '/v1/ssh-keys', { name: 'b', public_key: wrong }), {
    status: 400,
    body: { errors: [{ pointer: '/public_key', detail: /must be a key of the type that it names, ssh-rsa/ }] },
  });
  const short = testPublicKey.replace(/8o3c7T$/, '');
  t.match(await member.request('POST', '/v1/ssh-keys', { name: 'b', public_key: short }), {
    status: 400,
    body: { errors: [{ pointer: '/public_key', detail: /is cut off/ }] },
  });
  const file = await member.create('ssh-keys', { name: 'file', public_key: `${testPublicKey}\n` });
  t.match(file, { public_key: testPublicKey, fingerprint: key.fingerprint }, 'the line end of a file means nothing');
  await member.remove('ssh-keys', file.id);
  const taken = await member.expect(409, 'POST', '/v1/ssh-keys', { name: 'alice', public_key: testPublicKey });
  t.match(taken.body, { code: 'name_taken', errors: [{ pointer: '/name', detail: new RegExp(key.id) }] });
  const other = `${otherPublicKey} alice`;
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { public_key: wrong }), {
    status: 400,
    body: { errors: [{ pointer: '/public_key' }] },
  });
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { public_key: null }), { status: 400 });
  const rotated = await member.update('ssh-keys', key.id, { public_key: other });
  t.match(rotated, { id: key.id, name: 'alice', public_key: other });
  t.not(rotated.fingerprint, key.fingerprint, 'the fingerprint is that of the new key');
  t.match(await member.update('ssh-keys', key.id, { public_key: testPublicKey }), { fingerprint: key.fingerprint });
  await member.update('ssh-keys', key.id, { name: 'alice-2' });
  await member.create('ssh-keys', { name: 'alice', public_key: testPublicKey });
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { name: 'alice' }), {
    status: 409,
    body: { code: 'name_taken' },
  });
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { name: null }), {
    status: 400,
    body: { errors: [{ pointer: '/name' }] },
  });
  await member.remove('ssh-keys', key.id);
  await member.expect(404, 'DELETE', `/v1/ssh-keys/${key.id}`);
});
