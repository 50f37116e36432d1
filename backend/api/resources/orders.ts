/** Orders. Those of objects follow their objects (billing/ordering-store.ts); operators book the others. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { type Order, type OrderBody, type OrderUpdate, order } from '../../contract/resources/orders.ts';
import { changeTime, endOrder, notBefore } from '../../model/billing/ordering.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { present, put } from '../../store/collection.ts';
import { parseRecord } from '../../store/record-codec.ts';
import { orderCommit } from '../billing/order-commits.ts';
import { lastTerm } from '../billing/ordering-store.ts';
import { unbilledSince } from '../billing/unbilled.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { projectInQuery } from '../requests/objects.ts';
import { decodePageToken, encodePageToken } from '../requests/page-token.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, projectOfCreation, removeReference, replacement } from '../transaction/declarations.ts';
import { type Mutation, mutate } from '../transaction/mutate.ts';

/** The descriptor of orders. */
export const orders: ResourceDescriptor<records.OrderRecord> = describe(order, {
  kind: records.orders,
  scope: 'project',
  show: (_api, { use: _use, items, ...record }): Omit<Order, 'revision'> => {
    const [booked] = record.product === undefined ? [] : items;
    return { ...record, items, ...(booked && { quantity: booked.quantity }) };
  },
  indexes: ['object'],
  list: { selectedBy: 'object' },
  handlers: {
    order_create: bookProduct,
    order_update: updateOrder,
    order_delete: endBooking,
    order_cancel: cancelBooking,
    ended_order_list: listEndedOrders,
  },
});

async function bookProduct(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked, product, quantity, description, labels } = request.body as OrderBody;
  const project = projectOfCreation(api, request.caller, asked);
  const id = newId('order');
  return mutate(api, request, () => {
    const at = notBefore(request.now, lastTerm(api.mirror, project)?.since).toISOString();
    const booked = api.mirror.get(records.products, product);
    if (booked?.value.meter !== 'booked') {
      const rule = 'must be the id of an existing product with the meter booked';
      throw fieldError('invalid_reference', '/product', rule);
    }
    checkPayer(api, project);
    const item = { meter: 'booked', product, quantity } as const;
    const record: records.OrderRecord = {
      ...{ id, project, product, description, labels, items: [item], opened_at: at },
      title: booked.value.name,
      use: [{ ...item, since: at }],
      ...{ created_at: at, updated_at: at },
    };
    return creation(api, orders, record, {
      guards: [{ condition: present(records.products, product) }, { condition: present(records.projects, project) }],
      writes: [put(records.uses, `${project}/${id}`, {})],
      message: `Booked ${quantity} of ${record.title}.`,
    });
  });
}

/** Takes back a booking of months that are on no bill. Its uses are written nowhere, so they cost nothing. */
async function cancelBooking(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, orders, async (stored) => {
    const { object, project, title, opened_at } = stored.value;
    if (object !== undefined) {
      throw new UcloudError(
        'invalid_state',
        `the order ${stored.id} belongs to ${object}; only a booking can be cancelled`,
      );
    }
    const { ended } = endOrder(stored.value, 'cancelled', request.now);
    const { require, write } = orderCommit(stored, ended ? { ended } : {});
    const unbilled = await unbilledSince(api, project, Date.parse(opened_at), request.now);
    return endOf(stored.value, `Cancelled the booking of ${title}.`, {
      guards: [...require.map((condition) => ({ condition })), ...unbilled.guards],
      writes: [...write, ...unbilled.writes],
    });
  });
}

/** Checks that somebody pays for a booking. @throws UcloudError `billing_account_required` */
function checkPayer({ mirror }: ApiContext, project: Id<'project'>): void {
  if (mirror.get(records.projects, project)?.value.billing_account !== undefined) return;
  throw fieldError('billing_account_required', '/project', 'must name a project with a billing account');
}

async function updateOrder(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, orders, (stored) => {
    const changed: records.OrderRecord = patched(order, stored.value, request.body as OrderUpdate);
    return replacement(api, request, orders, stored, { ...changed, updated_at: changeTime(changed, request.now) });
  });
}

/** Returns the change that ends a booking. */
const endOf = (
  { id, project }: records.OrderRecord,
  message: string,
  { guards, writes }: Pick<Mutation, 'guards' | 'writes'>,
): Mutation => ({
  guards,
  writes: [...writes, removeReference(project, id)],
  target: id,
  project,
  quotaDelta: undefined,
  reason: 'deleted',
  message,
  answer: (revision) => ({ status: 204, revision }),
});

async function endBooking(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, orders, (stored) => {
    const { object, title } = stored.value;
    if (object !== undefined) {
      throw new UcloudError(
        'invalid_state',
        `the order ${stored.id} ends with ${object}; delete or resize that object`,
      );
    }
    const { require, write } = orderCommit(stored, endOrder(stored.value, 'ended', request.now));
    return endOf(stored.value, `Ended the booking of ${title}.`, {
      guards: require.map((condition) => ({ condition })),
      writes: write,
    });
  });
}

interface Query {
  readonly limit?: number;
  readonly page_token?: string;
  readonly project?: string;
}

/** Ended orders are many and rarely read, so they are read from the database and not kept in memory. */
async function listEndedOrders(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { limit = 100, page_token, project: asked } = request.query as Query;
  const { caller } = request;
  projectInQuery(api, caller, asked as never);
  const project = caller.project ?? asked;
  const prefix = `${records.endedOrders.prefix}${project === undefined ? '' : `${project}/`}`;
  const after = page_token === undefined ? undefined : prefix + decodePageToken(page_token);
  const page = await api.store.list(prefix, { limit, ...(after === undefined ? {} : { after }) });
  const items = page.entries.map((entry) => parseRecord(records.endedOrders, entry).value);
  const last = page.entries.at(-1);
  const { revision } = page;
  return {
    status: 200,
    body: {
      items,
      ...(page.more && last && { next_page_token: encodePageToken(last.key.slice(prefix.length)) }),
      revision,
    },
    revision,
  };
}
