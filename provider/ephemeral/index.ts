/** Ephemeral resources: values that exist during one run of Terraform. */
import type { Client } from '../client/client.ts';
import type { EphemeralDefinition, Lazy, Values } from '../framework/index.ts';

export const ephemeral: Readonly<Record<string, Lazy<EphemeralDefinition<Values, Client>>>> = {
  token: () => import('./token.ts').then((module) => module.token),
};
