/** The descriptors of all resources agree with the contract: they cover everything that it declares. */
import t from 'tap';
import { resources } from '../../backend/api/resources/index.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { quotaKinds } from '../../backend/contract/resources/quotas.ts';

t.test('every quota kind is counted by the descriptor of a resource', (t) => {
  // All fields from which an amount is computed.
  const record = {
    id: 'x',
    cpus: 1,
    memory: 1,
    disk_size: 1,
    size: 1,
    length: 64,
    kept_bytes: 1,
    disks: [{ size: 1 }],
  };
  const counted = resources.flatMap(({ quota }) => Object.entries(quota?.(record) ?? {}));
  t.same(new Set(counted.map(([kind]) => kind)), new Set(quotaKinds));
  t.ok(counted.every(([, amount]) => amount === 1));
  t.end();
});

t.test('every resource of the contract has a descriptor', (t) => {
  const nouns = new Set(endpoints.flatMap(({ resource }) => (resource ? [resource.noun] : [])));
  const described = new Map(resources.map(({ noun, plural }) => [noun, plural]));
  for (const noun of nouns) t.ok(described.has(noun), noun);
  for (const { resource } of endpoints) if (resource) t.equal(described.get(resource.noun), resource.plural);
  t.equal(described.size, resources.length, 'each noun once');
  t.end();
});

t.test('a resource with a list that selects by a field has an index by it', (t) => {
  const selected = resources.filter(({ list }) => list?.selectedBy !== undefined);
  t.ok(selected.length > 0);
  for (const { noun, list, indexes } of selected) t.ok(indexes?.includes(list?.selectedBy ?? ''), noun);
  t.end();
});
