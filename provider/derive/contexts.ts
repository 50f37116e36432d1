/** The contexts of handlers, for the client and the plan session of this provider. */
import type { Client } from '../client/client.ts';
import type * as framework from '../framework/index.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';

type Values = framework.Values;
export type PlanContext = framework.PlanContext<Values, Client, PlanSession>;
export type CreateContext = framework.CreateContext<Values, Client, PlanSession>;
export type ReadContext = framework.ReadContext<Values, Client, PlanSession>;
export type UpdateContext = framework.UpdateContext<Values, Client, PlanSession>;
export type DeleteContext = framework.DeleteContext<Values, Client, PlanSession>;
