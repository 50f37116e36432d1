/**
 * Every attribute of every resource with an unknown value, in a plan that creates, one that changes, and one that replaces.
 * The test calls the provider like Terraform, and the provider has a client.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import { put } from '../../backend/store/collection.ts';
import type { Attribute, Attributes } from '../../provider/framework/attributes.ts';
import type { Type } from '../../provider/framework/index.ts';
import { attributeType, isConfigurable, objectType, timeoutsAttribute } from '../../provider/framework/schema.ts';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import { UNKNOWN, type Value, type Values } from '../../provider/protocol/values.ts';
import { provider } from '../../provider/provider.ts';
import { resources } from '../../provider/resources/index.ts';
import { type Noun, schemaOf } from '../../provider/schema/resources.gen.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { fileRecord } from '../support/file-records.ts';
import { PluginClient } from '../support/plugin-client.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

type Path = readonly (string | number)[];

/** Returns the paths of the parts of a value that can be unknown, with the whole value. */
function partsOf(value: Value, path: Path = []): Path[] {
  if (value === null || typeof value !== 'object') return [path];
  const parts = Array.isArray(value) ? value.map((each, index) => [index, each] as const) : Object.entries(value);
  return [path, ...parts.flatMap(([step, each]) => (each === null ? [] : partsOf(each as Value, [...path, step])))];
}

function withUnknown(value: Value, [step, ...rest]: Path): Value {
  if (step === undefined) return UNKNOWN;
  if (Array.isArray(value)) return value.map((each, index) => (index === step ? withUnknown(each, rest) : each));
  const object = value as { readonly [key: string]: Value };
  const entries = Object.entries(object).map(([key, each]): [string, Value] => [
    key,
    key === step ? withUnknown(each, rest) : each,
  ]);
  return Object.fromEntries(entries);
}

/** Returns Terraform's proposed state: the configuration, and prior values of unset computed attributes. */
function proposed(attributes: Attributes, config: Values, prior: Values | null): Values {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]): [string, Value] => {
      const given = config[name] ?? null;
      if (given === null && attr.computed) return [name, prior?.[name] ?? null];
      return [name, attr.writeOnly ? null : given];
    }),
  );
}

t.test('each attribute alone may be known only after apply', async (t) => {
  const api = await startTestApi(t);
  const { operator, project } = api;
  const { pool, prefix, network, image, sshKey } = await createVmPrerequisites(api, project);
  const other = (await operator.create('projects', { name: 'other' })).id;
  const party = {
    ...{ legal_name: 'Example AG', email: 'a@example.com', vat_number: 'CHE-107.787.577 MWST' },
    address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  };
  const entity = await operator.create('legal-entities', { ...party, name: 'swiss', number_series: 'A-' });
  const account = await operator.create('billing-accounts', {
    ...{ ...party, name: 'payer', currency: 'CHF', legal_entity: entity.id },
  });
  const hour = await operator.create('products', { name: 'hour', meter: 'booked' });
  await operator.update('projects', project, { billing_account: account.id });
  const otherImage = await operator.create('images', { name: 'other', project, source: 'file:other.qcow2' });
  const [vm, otherVm] = await Promise.all(
    ['holder', 'other'].map((name) =>
      operator.create('vms', {
        ...{ name, project, image: image.id, disk_size: '4GiB', power_state: 'stopped' },
        interfaces: [{ network: network.id }],
      }),
    ),
  );
  const securityGroup = await operator.create('security-groups', { name: 'default', project });
  const volume = await operator.create('volumes', { name: 'held', project, size: '1GiB' });
  const host = newId('host');
  await api.store.commit({
    write: [vm, otherVm].map((each) =>
      put(records.schedules, each?.id ?? '', { host, fence: 1, at: '2026-01-01T00:00:00Z' }),
    ),
  });
  await until('the VMs have hosts', async () => (await operator.get('vms', otherVm?.id ?? '')).status.host === host);
  const snapshot = await operator.create('snapshots', { name: 'held', vm: vm?.id });
  const otherSnapshot = await operator.create('snapshots', { name: 'other', vm: otherVm?.id });
  const copied = { host, phase: 'available', at: '2026-01-01T00:00:00Z' } as const;
  await api.store.commit({
    write: [snapshot, otherSnapshot].map(({ id }) => put(records.snapshotReports, id, copied)),
  });
  await until(
    'it is complete',
    async () => (await operator.get('snapshots', otherSnapshot.id)).status.phase === 'available',
  );
  const hash = '0'.repeat(64);
  const source = join(temporaryDirectory(t), 'source.raw');
  writeFileSync(source, 'content');
  const file = fileRecord(newId('file_server'), project, 'f.raw');
  await api.store.commit({ write: [put(records.files, file.id, file)] });
  const labels = { team: 'web', stage: 'test' };

  /** Every configurable attribute, and its parts that require a replacement. */
  const cases: Readonly<Record<string, { config: Values; replace: Values }>> = {
    project: {
      config: {
        ...{ name: 'p', description: 'd', labels, delete_protection: false, quota: { vms: 3, memory: '4GiB' } },
        billing_account: account.id,
      },
      replace: {},
    },
    budget: {
      config: { project, billing_account: null, max_monthly_cost: '5', labels, delete_protection: false },
      replace: { project: other },
    },
    legal_entity: {
      config: {
        ...{ ...party, name: 'second', labels, number_series: 'B-', delete_protection: false },
        ...{ phone: '+41 55 505 62 65', iban: 'CH9300762011623852957', bic: 'POFICHBEXXX', registration: 'CHE-1' },
        oss: true,
        prepaid_grace_days: 20,
        dunning_levels: [{ days_after_due: 10, title: 'Reminder', text: 'Please pay.', fee: '5' }],
      },
      replace: {},
    },
    billing_account: {
      config: {
        ...{ ...party, name: 'second', labels, delete_protection: false, currency: 'CHF', legal_entity: entity.id },
        ...{ reference: 'R-1', customer_kind: 'business', payment: 'bill', payment_days: 30 },
        vat_decision: { category: 'S', rate: '8.1' },
      },
      replace: { currency: 'EUR' },
    },
    product: {
      config: {
        name: 'f',
        description: 'd',
        labels,
        delete_protection: false,
        meter: 'volume',
        pool: builtInPool,
        length: null,
        includes: null,
      },
      replace: { meter: 'snapshot' },
    },
    price: {
      config: {
        ...{ product: hour.id, currency: 'CHF', amount: '1', per: 'hour', valid_from: '2099-01-01T00:00:00Z' },
        ...{ minimum_seconds: 60, monthly_cap: '5', labels },
      },
      replace: { amount: '2' },
    },
    order: {
      config: { project, product: hour.id, quantity: 2, description: 'd', labels },
      replace: { quantity: 3 },
    },
    token: {
      config: {
        ...{ name: 't', role: 'viewer', expires_at: '2099-01-01T00:00:00Z', labels, project },
        // A token of role billing has an account in place of the project.
        billing_account: null,
      },
      replace: { role: 'member', expires_at: '2098-01-01T00:00:00Z' },
    },
    ssh_key: {
      config: { name: 'k', public_key: testPublicKey, labels, project },
      replace: { project: other },
    },
    file: {
      config: { name: 'f.raw', source, project },
      replace: { project: other },
    },
    image: {
      config: {
        ...{ name: 'i', source: 'file:i.raw', sha256: hash, architecture: 'x86_64', description: 'd', labels, project },
        ...{
          sha512: hash + hash,
          visibility: 'project',
          network_config: 'v2',
          firmware: 'uefi',
          delete_protection: false,
        },
        ...{ family: 'f', deprecated_at: '2099-01-01T00:00:00Z', replaced_by: otherImage.id, shared_with: [other] },
        ...{ snapshot: null, snapshot_disk: null, volume: null },
      },
      replace: { source: 'file:j.raw', architecture: 'aarch64' },
    },
    prefix_pool: {
      config: {
        ...{ name: 'pool', cidr: '2001:db8:f000::/36', default_length: 56, min_length: 44, description: 'd', labels },
        ...{ delete_protection: false },
      },
      replace: { cidr: '2001:db8:e000::/36' },
    },
    prefix: {
      config: {
        ...{ name: 'pre', pool: pool.id, cidr: pool.cidr.replace('::/48', ':f00::/56'), length: 56, labels, project },
        ...{ delete_protection: false },
      },
      replace: { cidr: pool.cidr.replace('::/48', ':e00::/60'), length: 60 },
    },
    network: {
      config: {
        ...{
          name: 'net',
          prefix: prefix.id,
          cidr: prefix.cidr.replace('::/56', ':7::/64'),
          kind: 'bridged',
          default_security_groups: [securityGroup.id],
          mtu: 1400,
          labels,
          project,
        },
        ...{ dns_servers: ['2001:db8::53', '2001:db8::54'], delete_protection: false },
      },
      replace: { mtu: 1500 },
    },
    vm: {
      config: {
        ...{ name: 'vm', image: image.id, cpus: 1, memory: '1GiB', disk_size: '4GiB', labels, project },
        interfaces: [{ network: network.id, mac: '02:00:00:00:00:01', security_groups: [securityGroup.id] }],
        ...{ ssh_keys: [sshKey.id], volumes: [], user_data: '#!/bin/sh\n', description: 'd', power_state: 'running' },
        ...{
          delete_protection: false,
          host_selector: '!gone',
          anti_affinity: { group: 'g', mode: 'preferred' },
          user_data_change: 'replace',
        },
        ...{ image_change: 'replace', root_volume: null },
        wait_for: 'none',
      },
      replace: { image: otherImage.id },
    },
    storage_pool: {
      config: {
        ...{
          name: 'stp',
          description: 'd',
          labels,
          kind: 'ceph',
          rbd_pool: 'vms',
          monitors: ['[::1]:3300'],
          user: 'u',
        },
        ...{ key_file: '/etc/key', overcommit: 2, delete_protection: false, path: null },
      },
      replace: { rbd_pool: 'other' },
    },
    bgp_peer: {
      config: {
        ...{ name: 'spine', description: 'd', labels, address: '2001:db8::1', asn: 65001, local_asn: 65002 },
        ...{ password_file: '/etc/password', host_selector: '!gone' },
      },
      replace: {},
    },
    volume: {
      config: {
        ...{ name: 'vol', size: '4GiB', description: 'd', labels, project, max_iops: 10, max_throughput: 20 },
        ...{ force_detach: true, delete_protection: false, pool: builtInPool },
        ...{ snapshot: snapshot.id, snapshot_disk: 'root', image: null, source_volume: null },
      },
      // The sources of a volume belong to its project.
      replace: { project: other, snapshot: null, snapshot_disk: null },
    },
    volume_attachment: {
      config: { vm: vm?.id ?? '', volume: volume.id, labels, stop_vm_before_detaching: true },
      replace: { vm: otherVm?.id ?? '' },
    },
    security_group: {
      config: {
        ...{ name: 'group', description: 'd', labels, project, default_egress: 'deny', vm_selector: 'tier=web' },
        rules: [{ direction: 'ingress', protocol: 'tcp', ports: ['80'], prefixes: ['::/0'], description: 'web' }],
        delete_protection: false,
      },
      replace: { project: other },
    },
    prefix_route: {
      config: {
        ...{ name: 'route', prefix: prefix.id, cidr: prefix.cidr.replace('::/56', ':10::/60'), length: 60 },
        ...{ vm: vm?.id ?? '', network: network.id, labels, delete_protection: false },
      },
      replace: { cidr: prefix.cidr.replace('::/56', ':20::/61'), length: 61 },
    },
    snapshot: {
      config: {
        ...{ name: 'snap', vm: vm?.id ?? '', volume: null, consistency: 'crash', description: 'd', labels },
        delete_protection: false,
      },
      replace: { vm: otherVm?.id ?? '' },
    },
    snapshot_schedule: {
      config: {
        ...{ name: 'daily', vm: vm?.id ?? '', volume: null, cron: '0 3 * * *', retain: 7, consistency: 'crash' },
        ...{ description: 'd', labels, snapshot_labels: labels, delete_protection: false },
      },
      replace: { vm: otherVm?.id ?? '' },
    },
  };
  t.strictSame(Object.keys(cases).toSorted(), Object.keys(resources).toSorted(), 'every resource is here');

  const client = await PluginClient.of(t, provider);
  const providerType: Type = objectType(provider.attributes);
  const configured = await client.call('ConfigureProvider', {
    config: {
      msgpack: encodeValue(providerType, {
        ...Object.fromEntries(Object.keys(provider.attributes).map((name) => [name, null])),
        ...{ endpoint: api.url, token: api.operatorToken, project },
      }),
    },
  });
  t.strictSame(configured.diagnostics, []);

  for (const [noun, { config: given, replace }] of Object.entries(cases)) {
    const source = resources[noun];
    const definition = typeof source === 'function' ? await source() : source;
    if (!definition) throw new Error(noun);
    const attributes: Attributes = {
      ...definition.attributes,
      ...(definition.timeouts && { timeouts: timeoutsAttribute(definition.timeouts) }),
    };
    const type = objectType(attributes);
    const type_name = `ucloud_${noun}`;
    const wire = (value: Values | null) => ({ msgpack: encodeValue(type, value) });
    const full = (config: Values): Values => fill(attributes, config);
    const config = full(given);
    const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
    const configurable = Object.entries(attributes)
      .filter(([name, attr]) => isConfigurable(attr) && name !== 'timeouts' && !/^user_data_wo/.test(name))
      .map(([name]) => name);
    t.strictSame(Object.keys(given).toSorted(), configurable.toSorted(), `${noun}: every attribute is given`);

    const plan = async (wanted: Values, prior: Values | null) => {
      const validated = await client.call('ValidateResourceConfig', { type_name, config: wire(wanted) });
      const answer = await client.call('PlanResourceChange', {
        type_name,
        prior_state: wire(prior),
        proposed_new_state: wire(proposed(attributes, wanted, prior)),
        config: wire(wanted),
      });
      const diagnostics = [...validated.diagnostics, ...answer.diagnostics];
      const planned = decodeValue(type, answer.planned_state?.msgpack ?? new Uint8Array()) as Values;
      return { diagnostics, planned, replace: answer.requires_replace };
    };
    // Uploads create files, and the file scanner records them.
    const made =
      noun === 'file'
        ? file
        : await operator.create(schemaOf(noun as Noun).path.replace('/v1/', ''), requestOf(noun, set));
    const imported = await client.call('ImportResourceState', { type_name, id: made.id });
    const read = await client.call('ReadResource', {
      type_name,
      current_state: imported.imported_resources[0]?.state ?? wire(null),
    });
    t.strictSame([...imported.diagnostics, ...read.diagnostics], [], `${noun}: it is there`);
    const prior = decodeValue(type, read.new_state?.msgpack ?? new Uint8Array()) as Values;

    for (const [action, base, before] of [
      ['create', { ...config, ...replace }, null],
      ['update', config, prior],
      ['replace', full({ ...given, ...replace }), prior],
    ] as const) {
      const fresh = action === 'create' ? rename(base) : base;
      for (const path of configurable.flatMap((name) => partsOf(config[name] ?? null, [name]))) {
        const wanted = withUnknown(fresh, path) as Values;
        const { diagnostics, planned } = await plan(wanted, before);
        const where = `${noun}, ${action}: ${path.join('.')}`;
        // A warning about an unknown value is no error.
        const errors = diagnostics.filter(({ severity }) => severity === 1);
        const kept = action === 'update' && noun === 'volume' && firstContent.includes(String(path[0]));
        if (kept) {
          // A volume keeps its content, whatever the value will be.
          const before = prior[String(path[0])] ?? null;
          if (before === null) t.match(errors, [{ summary: 'A volume keeps its content' }], where);
          else t.strictSame([errors, planned[String(path[0])]], [[], before], where);
          continue;
        }
        t.strictSame(errors, [], where);
        t.equal(valueIn(planned, path, attributes[String(path[0])]), UNKNOWN, `${where} stays unknown`);
        if (action !== 'replace') continue;
        // Terraform plans the new object of a replacement again, as an object that does not exist.
        const again = await plan(wanted, null);
        t.strictSame(
          again.diagnostics.filter(({ severity }) => severity === 1),
          [],
          `${where}, its new object`,
        );
      }
    }
  }
});

/** The fields that decide only the first content of a volume. */
const firstContent = ['image', 'snapshot', 'snapshot_disk', 'source_volume'];

const requestOf = (noun: string, given: Values): Values =>
  Object.fromEntries(
    Object.entries(given).filter(([name, value]) => value !== null && schemaOf(noun as Noun).fields[name]?.create),
  );

/** Returns all attributes of an object, with null for those without a configured value. */
function fill(attributes: Attributes, config: Values): Values {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]): [string, Value] => {
      const value = config[name] ?? null;
      if (value === null || attr.kind === 'plain') return [name, value];
      if (Array.isArray(value)) return [name, value.map((each) => fill(attr.attributes, each as Values))];
      return [name, fill(attr.attributes, value as Values)];
    }),
  );
}

/** Returns another object with the same attributes. It has another name, because names are unique. */
const rename = (config: Values): Values => ({ ...config, name: `${String(config.name)}-new` });

/** Returns the value at the path. Elements of sets have no index, so any unknown element counts. */
function valueIn(planned: Values, path: Path, attr: Attribute | undefined): Value {
  const type = attr && attributeType(attr);
  let value: Value = planned;
  for (const [index, step] of path.entries()) {
    if (value === UNKNOWN) return UNKNOWN;
    const isSet = index === 1 && Array.isArray(type) && type[0] === 'set';
    if (isSet && Array.isArray(value)) return value.includes(UNKNOWN) ? UNKNOWN : null;
    value = (value as { readonly [step: string]: Value })[String(step)] ?? null;
  }
  return value;
}
