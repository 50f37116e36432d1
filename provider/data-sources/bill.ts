/** The data source of a bill, which is found by its id or its number. */
import type { Item } from '../client/item.ts';
import { deriveDataSource } from '../derive/data-source.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const bill = deriveDataSource(schemaOf('bill'), {
  number: {
    description: 'finds the bill with this number',
    async find({ client, value, signal }): Promise<Item | undefined> {
      return (await client.listAll('/v1/bills', { number: value }, signal))[0];
    },
  },
});
