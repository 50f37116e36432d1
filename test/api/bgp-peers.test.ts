/** BGP peers as operators declare them, and the sessions that hosts report. */
import t from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';

const spine = { name: 'spine', address: 'FE80:0::A%eth0', asn: 4200000000, local_asn: 4200000001 };

t.test('an operator declares a peer, changes it and removes it', async (t) => {
  const { operator } = await startTestApi(t);
  const peer = await operator.create('bgp-peers', spine);
  t.match(peer, { ...spine, address: 'fe80::a%eth0', description: '', labels: {}, sessions: [] });
  t.notOk('password_file' in peer || 'host_selector' in peer);
  const change = { address: '2001:db8::1', password_file: '/etc/ucloud/bgp', host_selector: 'rack=r1' };
  t.match(await operator.update('bgp-peers', peer.id, change), change);
  const back = await operator.update('bgp-peers', peer.id, { password_file: null, host_selector: null });
  t.notOk('password_file' in back || 'host_selector' in back);
  t.match((await operator.list('bgp-peers', '?name=spine')).items, [{ id: peer.id }]);
  await operator.remove('bgp-peers', peer.id);
});

t.test('each wrong field is named with its rule, and nothing changes', async (t) => {
  const { operator } = await startTestApi(t);
  const peer = await operator.create('bgp-peers', spine);
  const wrong: readonly (readonly [object, string, RegExp])[] = [
    [{ address: 'fe80::a' }, '/address', /needs the interface/],
    [{ address: '192.0.2.1' }, '/address', /IPv6/],
    [{ address: 'fe80::a%eth0"; }' }, '/address', /interface name/],
    [{ asn: 0 }, '/asn', />= 1/],
    [{ asn: 4294967295 }, '/asn', /<= 4294967294/],
    [{ asn: 23456 }, '/asn', /reserved/],
    [{ local_asn: 1.5 }, '/local_asn', /integer/],
    [{ local_asn: spine.asn }, '/local_asn', /must differ from asn/],
    [{ password_file: 'secret' }, '/password_file', /absolute path/],
    [{ password_file: '/etc/../shadow' }, '/password_file', /absolute path/],
    [{ host_selector: 'rack in r1' }, '/host_selector', /label selector/],
  ];
  for (const [change, pointer, detail] of wrong) {
    for (const [method, path, body] of [
      ['POST', '/v1/bgp-peers', { ...spine, name: 'other', ...change }],
      ['PATCH', `/v1/bgp-peers/${peer.id}`, change],
    ] as const) {
      const answer = await operator.expect(400, method, path, body);
      t.match(answer.body, { code: 'invalid_input', errors: [{ pointer, detail }] }, JSON.stringify(change));
    }
  }
  t.match((await operator.list('bgp-peers')).items, [{ id: peer.id, revision: peer.revision }]);
  t.match(await operator.expect(409, 'POST', '/v1/bgp-peers', spine), { body: { code: 'name_taken' } });
});

t.test('operators see the sessions of hosts at the peer and at the host', async (t) => {
  const { operator, store } = await startTestApi(t);
  const host = newId('host');
  const at = '2026-01-01T00:00:00.000Z';
  await store.commit({ write: [put(records.hosts, host, hostRecord({ id: host })), put(records.alive, host, { at })] });
  const peer = await operator.create('bgp-peers', spine);
  const session = { state: 'established', since: at, imported: 1 } as const;
  const { revision } = await operator.get('hosts', host);
  const waiting = operator.get('hosts', host, `?after=${revision}&timeout=20`);
  const sessions = [{ peer: idFrom('bgp_peer', peer.id), ...session }];
  await store.commit({ write: [put(records.bgpReports, host, { sessions, at })] });
  t.match((await waiting).bgp_sessions, [session], 'a client that waits for the host gets the report');
  t.strictSame((await operator.get('bgp-peers', peer.id)).sessions, [{ host, ...session }]);
  t.strictSame((await operator.get('hosts', host)).bgp_sessions, [{ peer: peer.id, ...session }]);
  await store.commit({ write: [remove(records.alive, host)] });
  await until('the host is dead', async () => !(await operator.get('hosts', host)).alive);
  t.match((await operator.get('bgp-peers', peer.id)).sessions, [{ host, state: 'unknown' }]);
  await operator.remove('hosts', host);
  await until('its sessions are gone', async () => (await operator.get('bgp-peers', peer.id)).sessions.length === 0);
  t.strictSame((await store.list(records.bgpReports.prefix, { limit: 10 })).entries, []);
});
