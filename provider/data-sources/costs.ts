/** The data source of the costs of a project in a month, such as for a `check` block. */
import type { Client } from '../client/client.ts';
import { explain } from '../client/problem.ts';
import { attribute, DiagnosticError, defineDataSource, type Values } from '../framework/index.ts';

const computed = (description: string) => attribute.string({ computed: true, description });

const attributes = {
  project: attribute.string({
    optional: true,
    computed: true,
    description: 'Id of the project. Default: `project` of the provider, else the project of its token.',
  }),
  month: attribute.string({
    optional: true,
    computed: true,
    description: 'Calendar month (UTC), such as `2026-11`. Default: the present month.',
    validate: (value) =>
      /^[0-9]{4}-(0[1-9]|1[0-2])$/.test(String(value))
        ? undefined
        : `Must be a calendar month such as \`2026-11\`, not ${JSON.stringify(value)}.`,
  }),
  until: computed('Time up to which uses are charged (RFC 3339, UTC).'),
  currency: computed('Currency. Null if no account pays for the project.'),
  total: computed('Sum of all costs, before VAT: a decimal number such as `42.10`.'),
  items: attribute.nestedList(
    {
      resource: computed('Id of the object, or of the booking.'),
      title: computed('Name of the object at the begin of its order.'),
      labels: attribute.map('string', {
        computed: true,
        description: 'Labels of the object at the end of its use, or at the begin of its order.',
      }),
      product: computed('Id of the product.'),
      cost: computed('Cost before VAT, with 8 decimals at most.'),
    },
    { computed: true, description: 'Costs by object and product, the largest first. At most 10,000.' },
  ),
};

export const costs = defineDataSource<Values, Client>({
  description:
    'The costs of the objects of a project in a month so far, with the calculation of bills. They grow with time, so a later refresh gives other values. A `check` block can compare the total with a limit.',
  attributes,
  async read({ client, config, signal }) {
    const project = config.project ?? (await client.project(signal)) ?? null;
    if (project === null) {
      throw new DiagnosticError('Set `project`', 'The token of the provider belongs to no project.', ['project']);
    }
    const query = { project: String(project), ...(config.month !== null && { month: String(config.month) }) };
    try {
      const result = await client.call('GET', '/v1/costs', { query, signal });
      const { month, until, currency = null, total, items } = result as { [name: string]: Values[string] };
      return { project, month, until, currency, total, items } as Values;
    } catch (error) {
      throw explain(error, 'The costs cannot be read', new Set(Object.keys(attributes)));
    }
  },
});
