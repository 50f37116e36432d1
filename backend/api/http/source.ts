/** The owner that a request is charged to. */
import type { FastifyRequest } from 'fastify';
import { sourceNetwork } from '../../model/network/addresses.ts';
import { accountOf } from '../requests/context.ts';

/** The project of the token, an operator's token itself, or the network that the request came from. */
export const ownerOf = ({ caller, ip }: FastifyRequest): string => (caller ? accountOf(caller) : sourceNetwork(ip));
