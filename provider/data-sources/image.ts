/** The data source of an image, which is found by its id, its name or its family. */

import type { Item } from '../client/item.ts';
import { isNotFound } from '../client/problem.ts';
import { deriveDataSource } from '../derive/data-source.ts';
import { schemaOf } from '../schema/resources.gen.ts';

const families = '/v1/image-families';

export const image = deriveDataSource(schemaOf('image'), {
  family: {
    description: 'finds the newest image of the family that is available and not deprecated',
    async find({ client, value, owner, project, signal }) {
      const query = { project, owner };
      try {
        return (await client.call('GET', `${families}/${encodeURIComponent(value)}`, { query, signal })) as Item;
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    },
  },
});
