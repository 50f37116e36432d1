/** The owner of the resources that a request uses. */
import type { FastifyRequest } from 'fastify';
import { sourceNetwork } from '../../model/network/addresses.ts';
import { accountOf } from '../requests/context.ts';

/** Returns the project of the token, an operator's token, or the network of a client without a token. */
export const ownerOf = ({ caller, ip }: FastifyRequest): string => (caller ? accountOf(caller) : sourceNetwork(ip));
