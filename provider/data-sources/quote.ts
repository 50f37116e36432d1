/** The data source of a quote: the cost of objects that do not exist, such as for a `check` block. */
import type { Client } from '../client/client.ts';
import { explain } from '../client/problem.ts';
import type { Field } from '../derive/fields.ts';
import { problemWith } from '../derive/rules.ts';
import { formats } from '../derive/semantics.ts';
import { type Attributes, attribute, defineDataSource, type Values } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';

/** Returns an optional attribute with the rules of a field of the object itself. */
function like(
  noun: Parameters<typeof schemaOf>[0],
  name: string,
  more: { readonly required?: true; readonly standard?: string } = {},
) {
  const field: Field | undefined = schemaOf(noun).fields[name];
  if (!field) throw new Error(`${noun} has no ${name}`);
  const options = {
    ...(more.required ? { required: true } : { optional: true }),
    description: `${more.standard === undefined ? '' : `Default: ${more.standard}. `}As in \`ucloud_${noun}\`.`,
    validate: (value: unknown) => problemWith(field, value),
  };
  return field.type === 'integer' ? attribute.number(options) : attribute.string(options);
}

const count = attribute.number({
  optional: true,
  description: 'Number of such objects. Default: 1.',
  validate: (value) =>
    Number.isInteger(value) && Number(value) >= 1 ? undefined : `Must be a whole number from 1 on, not ${value}.`,
});

const objects = (what: string, attributes: Attributes) =>
  attribute.nestedList({ count, ...attributes }, { optional: true, description: `${what} of the quote.` });

const computed = (description: string) => attribute.string({ computed: true, description });

const attributes = {
  project: attribute.string({
    optional: true,
    computed: true,
    description: 'Id of the project that pays. Default: `project` of the provider, else the project of its token.',
  }),
  currency: attribute.string({
    optional: true,
    computed: true,
    description:
      'Currency (ISO 4217). Default: that of the billing account, or the only currency with prices. Null if there are no prices.',
  }),
  vms: objects('VMs', {
    cpus: like('vm', 'cpus', { standard: '1' }),
    memory: like('vm', 'memory', { standard: '`512MiB`' }),
    disk_size: like('vm', 'disk_size', { standard: 'no disk, as with a root volume' }),
    power_state: like('vm', 'power_state', { standard: '`running`' }),
  }),
  volumes: objects('Volumes', { size: like('volume', 'size', { required: true }), pool: like('volume', 'pool') }),
  snapshots: objects('Snapshots', { size: like('volume', 'size', { required: true }), pool: like('volume', 'pool') }),
  prefixes: objects('Prefixes', {
    length: attribute.number({ required: true, description: 'Length of the prefix.' }),
  }),
  monthly: computed('Cost in a month of 730 hours, before VAT: a decimal number such as `42.10`.'),
  once: computed('Cost at the begin, before VAT.'),
  lines: attribute.nestedList(
    {
      product: computed('Id of the product.'),
      name: computed('Name of the product.'),
      meter: computed('Meter.'),
      price: computed('Id of the price.'),
      quantity: computed('Quantity in units of the meter.'),
      unit: computed('Unit of the meter, such as `CPU` or `GiB`.'),
      monthly: computed('Cost in a month.'),
      once: computed('Cost at the begin.'),
    },
    { computed: true, description: 'Cost by price.' },
  ),
};

/** Returns the objects in the form of the API: without null values, and sizes in their normal spelling. */
function objectsOf(list: unknown): readonly object[] {
  if (!Array.isArray(list)) return [];
  return list.map((each) =>
    Object.fromEntries(
      Object.entries(each as object).flatMap(([name, value]) => {
        if (value === null) return [];
        const size = name === 'memory' || name.endsWith('size') ? formats.size?.normal(String(value)) : undefined;
        return [[name, size ?? value]];
      }),
    ),
  );
}

export const quote = defineDataSource<Values, Client>({
  description:
    'The cost of objects before they exist, by the prices that apply now and the calculation of bills. Nothing is created or reserved. A `check` block can compare the cost with a limit.',
  attributes,
  async read({ client, config, signal }) {
    const project = config.project ?? (await client.project(signal)) ?? null;
    const body = {
      ...(project !== null && { project }),
      ...(config.currency !== null && { currency: config.currency }),
      ...Object.fromEntries(
        (['vms', 'volumes', 'snapshots', 'prefixes'] as const).map((kind) => [kind, objectsOf(config[kind])]),
      ),
    };
    try {
      const result = await client.call('POST', '/v1/quotes', { body, signal });
      const { currency = null, monthly, once, lines } = result as { [name: string]: Values[string] };
      return { project, currency, monthly, once, lines } as Values;
    } catch (error) {
      throw explain(error, 'The cost cannot be calculated', new Set(Object.keys(attributes)));
    }
  },
});
