/** The ledger of the API: its database and its mirror. */
import type { Ledger } from '../../billing/ledger/account-bill.ts';
import * as records from '../../model/records/index.ts';
import type { ApiContext } from '../requests/context.ts';

/** Returns the ledger for the calculation of bills. */
export const ledgerOf = ({ store, mirror }: ApiContext): Ledger => ({
  store,
  mirror,
  ordersOf: (project) => mirror.by(records.orders, 'project').list(project),
});
