/**
 * Records about money. The API writes all of them. Amounts are decimal texts, because JSON has no exact numbers.
 *
 * An order is open while its record is in `orders/`. The API's mirror contains open orders only. Ended orders and uses are
 * read from the database when they are needed, by project and month.
 */
import { type Static, Type } from '@sinclair/typebox';
import { includedMeters, meters } from '../../contract/resources/meters.ts';
import { orderEnds } from '../../contract/resources/orders.ts';
import { paymentKinds, prepaidStates } from '../../contract/resources/payments.ts';
import { vatCategories } from '../../contract/resources/vat.ts';
import { declared, id, kind, labels, oneOf, time } from './form.ts';

const party = {
  legal_name: Type.String(),
  address: Type.Object({
    street: Type.String(),
    postcode: Type.String(),
    city: Type.String(),
    country: Type.String(),
  }),
  vat_number: Type.Optional(Type.String()),
  email: Type.String(),
};
const named = { name: Type.String(), labels };
/** An amount as a decimal text. */
const amount = Type.String();

/** `legal-entities/<id>`. */
export const legalEntities = kind('legal-entities/', {
  id: id('legal_entity'),
  ...named,
  ...party,
  number_series: Type.String(),
  phone: Type.Optional(Type.String()),
  iban: Type.Optional(Type.String()),
  bic: Type.Optional(Type.String()),
  registration: Type.Optional(Type.String()),
  oss: Type.Optional(Type.Boolean()),
  prepaid_grace_days: Type.Optional(Type.Integer()),
  dunning_levels: Type.Optional(
    Type.Array(
      Type.Object({
        days_after_due: Type.Integer(),
        title: Type.String(),
        text: Type.String(),
        fee: Type.Optional(amount),
      }),
    ),
  ),
  delete_protection: Type.Boolean(),
  ...declared,
});
export type LegalEntityRecord = Static<typeof legalEntities.schema>;

/** `number-series/<series>`: the legal entity with this series of numbers. Series of former entities stay taken. */
export const numberSeries = kind('number-series/', { id: id('legal_entity') });

/** `billing-accounts/<id>`. */
export const billingAccounts = kind('billing-accounts/', {
  id: id('billing_account'),
  ...named,
  ...party,
  currency: Type.String(),
  legal_entity: id('legal_entity'),
  reference: Type.Optional(Type.String()),
  customer_kind: oneOf(['business', 'consumer']),
  payment: oneOf(['bill', 'prepaid']),
  vat_decision: Type.Optional(
    Type.Object({
      category: oneOf(vatCategories),
      rate: Type.Optional(Type.String()),
      reason: Type.Optional(Type.String()),
    }),
  ),
  payment_days: Type.Integer(),
  /** Only in records of versions without `budgets/`. A server converts it at its start. */
  max_monthly_cost: Type.Optional(amount),
  delete_protection: Type.Boolean(),
  ...declared,
});
export type BillingAccountRecord = Static<typeof billingAccounts.schema>;

/** `budgets/<id>`: the largest monthly cost of a project or of an account. */
export const budgets = kind('budgets/', {
  id: id('budget'),
  labels,
  project: Type.Optional(id('project')),
  billing_account: Type.Optional(id('billing_account')),
  max_monthly_cost: amount,
  delete_protection: Type.Boolean(),
  ...declared,
});
export type BudgetRecord = Static<typeof budgets.schema>;

/**
 * `budget-guards/<project or account>`: the only budget of the owner. Each change that adds to the cost rewrites this record, and so
 * does each change of the budget.
 */
export const budgetGuards = kind('budget-guards/', {
  count: Type.Integer(),
  /** Missing only in records of versions without `budgets/`. */
  id: Type.Optional(id('budget')),
});

/**
 * `account-terms/<project>/<since>`: the billing account of a project from an instant on; missing `account`: none. It stays
 * when the project is deleted, because its uses are billed later.
 */
export const accountTerms = kind('account-terms/', {
  project: id('project'),
  /** The name of the project at that time, for bills. */
  name: Type.String(),
  account: Type.Optional(id('billing_account')),
  since: time,
});

const part = {
  meter: oneOf(meters),
  pool: Type.Optional(id('storage_pool')),
  length: Type.Optional(Type.Integer()),
  product: Type.Optional(id('product')),
};

const product = {
  id: id('product'),
  ...named,
  meter: part.meter,
  pool: part.pool,
  length: part.length,
  includes: Type.Optional(
    Type.Array(Type.Object({ meter: oneOf(includedMeters), quantity: Type.Integer({ minimum: 1 }) })),
  ),
  description: Type.String(),
  delete_protection: Type.Boolean(),
  ...declared,
};

/** `products/<id>`. */
export const products = kind('products/', product);
export type ProductRecord = Static<typeof products.schema>;

/** `ended-products/<id>`: a deleted product that had prices, which bills of the past need. */
export const endedProducts = kind('ended-products/', { ...product, ended_at: time });

/** `meter-products/<part of a meter>`: the only product of this part. */
export const meterProducts = kind('meter-products/', { id: id('product') });

/**
 * `meter-roles/<meter>/whole/<product>`: the meter of a composed product. `meter-roles/<meter>/part/<product>`: a meter that
 * the product includes. No meter has both roles.
 */
export const meterRoles = kind('meter-roles/', {});

const price = {
  id: id('price'),
  labels,
  product: id('product'),
  currency: Type.String(),
  amount,
  per: oneOf(['hour', 'month', 'once']),
  valid_from: time,
  minimum_seconds: Type.Integer({ minimum: 0 }),
  monthly_cap: Type.Optional(amount),
  ...declared,
};

/** `prices/<id>`. A price never changes, but for its labels. */
export const prices = kind('prices/', price);
export type PriceRecord = Static<typeof prices.schema>;

/** `ended-prices/<id>`: a deleted price that had applied, which bills of the past need. */
export const endedPrices = kind('ended-prices/', { ...price, ended_at: time });
export type EndedPriceRecord = Static<typeof endedPrices.schema>;

/**
 * `price-starts/<product>/<currency>/<recurring or once>/<valid_from>`: the only price from this instant on. It stays when the
 * price has ended.
 */
export const priceStarts = kind('price-starts/', { id: id('price') });

const item = Type.Object({ ...part, quantity: Type.Integer({ minimum: 0 }) });
const facts = {
  id: id('order'),
  project: id('project'),
  /** The ordered object, or the booked product. */
  object: Type.Optional(Type.String()),
  product: Type.Optional(id('product')),
  title: Type.String(),
  description: Type.String(),
  labels,
  items: Type.Array(item),
  opened_at: time,
  replaces: Type.Optional(id('order')),
};

/**
 * `orders/<order>`: an open order. The first order of an object has the same random characters as the object, so that
 * it exists at most once. `use` contains the quantities that are in use, each since its own instant.
 */
export const orders = kind('orders/', {
  ...facts,
  use: Type.Array(Type.Object({ ...part, quantity: Type.Integer({ minimum: 0 }), since: time })),
  ...declared,
});
export type OrderRecord = Static<typeof orders.schema>;

/** `ended-orders/<project>/<ended_at>/<order>`. */
export const endedOrders = kind('ended-orders/', { ...facts, ended_at: time, end: oneOf(orderEnds) });
export type EndedOrderRecord = Static<typeof endedOrders.schema>;

/**
 * `usage/<project>/<month>/<object or order>/<until>/<order>/<revision>`: quantities that were in use until an instant in
 * this month (UTC), each since its own instant. `<revision>` is that of the order whose change ended them.
 */
export const usage = kind('usage/', {
  project: id('project'),
  order: id('order'),
  resource: Type.String(),
  title: Type.String(),
  labels,
  until: time,
  uses: Type.Array(Type.Object({ ...part, quantity: Type.Integer({ minimum: 0 }), since: time })),
});
export type UsageRecord = Static<typeof usage.schema>;

/** `bills/<id>`: a bill or a credit note. It never changes. Its document is in `bill-documents/<id>`, which no process keeps in memory. */
export const bills = kind('bills/', {
  id: id('bill'),
  labels,
  number: Type.String(),
  /** Missing: `bill`. */
  kind: Type.Optional(oneOf(['bill', 'credit_note'])),
  /** The bill that a credit note corrects. */
  corrects: Type.Optional(id('bill')),
  billing_account: id('billing_account'),
  legal_entity: id('legal_entity'),
  month: Type.String(),
  issue_date: Type.String(),
  due_date: Type.String(),
  currency: Type.String(),
  net: amount,
  vat: amount,
  gross: amount,
  /** The answer about the VAT number of the customer that decided on the VAT: the evidence for reverse charge. */
  vat_check: Type.Optional(
    Type.Object({
      vat_number: Type.String(),
      answer: oneOf(['valid', 'invalid', 'unknown']),
      at: time,
      consultation_number: Type.Optional(Type.String()),
    }),
  ),
  /** The SHA-256 of the document, in hex. */
  sha256: Type.String(),
  ...declared,
});
export type BillRecord = Static<typeof bills.schema>;

/** `bill-documents/<id>`: the document as JSON text (model/billing/bill-document.ts). */
export const billDocuments = kind('bill-documents/', { json: Type.String() });

/** `bill-credits/<bill>`: the amounts that credit notes have given back, by the id of the line of the bill. */
export const billCredits = kind('bill-credits/', { lines: Type.Record(Type.String(), amount) });

/** `bill-numbers/<series>`: the last number of a series. It changes in the commit of the bill with this number. */
export const billNumbers = kind('bill-numbers/', { last: Type.Integer({ minimum: 1 }) });

/** `closed-months/<account>/<month>`: the month is billed. Without `bill`, it cost nothing. */
export const closedMonths = kind('closed-months/', { bill: Type.Optional(id('bill')), at: time });

/**
 * `bill-guards/<account>`: each change that takes uses back rewrites this record. A closing that has read the uses before fails.
 */
export const billGuards = kind('bill-guards/', { count: Type.Integer() });
/** `payments/<id>`. A payment never changes. */
export const payments = kind('payments/', {
  id: id('payment'),
  billing_account: id('billing_account'),
  kind: oneOf(paymentKinds),
  amount,
  currency: Type.String(),
  received_on: Type.String(),
  reference: Type.String(),
  bill: Type.Optional(id('bill')),
  source: Type.Optional(id('payment_source')),
  external_id: Type.Optional(Type.String()),
  ...declared,
});
export type PaymentRecord = Static<typeof payments.schema>;

/** `payment-sources/<id>`. Signatures need the key itself, so the database contains it. */
export const paymentSources = kind('payment-sources/', {
  id: id('payment_source'),
  ...named,
  /** The key of the signatures, in base 64. */
  key: Type.String(),
  created_by: id('token'),
  replaces: Type.Optional(id('payment_source')),
  /** The source whose id stands in the keys of events: that of the first one of a chain of replacements. */
  events: id('payment_source'),
  ...declared,
});
export type PaymentSourceRecord = Static<typeof paymentSources.schema>;

/** `payment-events/<first source>/<SHA-256 of the id at the service>`: the payment of an event, written only if absent. */
export const paymentEvents = kind('payment-events/', {
  payment: id('payment'),
  /** The SHA-256 of the content. */
  content: Type.String(),
});

/**
 * `payment-refusals/<first source>/<SHA-256 of the id at the service>`: operators have got an event about a refused payment.
 * It stays, so that they get no other.
 */
export const paymentRefusals = kind('payment-refusals/', { at: time });

/** `dunning/<bill>`: the last reminder of a bill, by the billing component. A payment leaves it, so that no level comes again. */
export const dunning = kind('dunning/', {
  account: id('billing_account'),
  level: Type.Integer({ minimum: 1 }),
  at: time,
});
export type DunningRecord = Static<typeof dunning.schema>;

/**
 * `prepaid/<account>`: the state of a prepaid account, by the billing component. It changes rarely, because each change of the API
 * that adds to the cost requires it unchanged. The API removes it with the account, and when `payment` of the account changes.
 */
export const prepaid = kind('prepaid/', {
  state: oneOf(prepaidStates),
  /** The begin of the state; of `empty` for `lapsed`. */
  since: time,
  /** The days of the last warning of this state. */
  warned: Type.Optional(Type.Integer()),
  /** The last warning for each number of days, with the number of payments that the account had received. */
  warnings: Type.Optional(
    Type.Record(Type.String(), Type.Object({ at: time, payments: Type.Integer({ minimum: 0 }) })),
  ),
});
export type PrepaidRecord = Static<typeof prepaid.schema>;

/** `vat-rates/<id>`: a rate of VAT that an operator has added. It never changes. */
export const vatRates = kind('vat-rates/', {
  id: id('vat_rate'),
  country: Type.String(),
  rate: Type.String(),
  valid_from: Type.String(),
  ...declared,
});
export type VatRateRecord = Static<typeof vatRates.schema>;

/** `vat-rate-starts/<country>/<valid_from>`: the only rate of an operator from this day on. */
export const vatRateStarts = kind('vat-rate-starts/', { id: id('vat_rate') });

/** `vat-checks/<VAT number>`: the last answer about a VAT number. */
export const vatChecks = kind('vat-checks/', {
  answer: oneOf(['valid', 'invalid', 'unknown']),
  /** The reason why the answer is unknown. */
  reason: Type.Optional(Type.String()),
  name: Type.Optional(Type.String()),
  consultation_number: Type.Optional(Type.String()),
  /** The first request about this number. */
  since: time,
  at: time,
});
export type VatCheckRecord = Static<typeof vatChecks.schema>;
