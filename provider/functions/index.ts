/** Functions: IPv6 arithmetic for configurations. They send no requests, so they work without a configured provider. */
import type { FunctionDefinition, Lazy } from '../framework/index.ts';

export const functions: Readonly<Record<string, Lazy<FunctionDefinition<never>>>> = {
  eui64_address: () => import('./eui64-address.ts').then((module) => module.eui64AddressFunction),
  reverse_name: () => import('./reverse-name.ts').then((module) => module.reverseNameFunction),
  subnet: () => import('./subnet.ts').then((module) => module.subnetFunction),
};
