/**
 * The service `tfplugin6.Provider` for one connection. Every call gets an answer. An error of a handler and an unreadable
 * value become a diagnostic, and the state stays unchanged. Only bytes that are no message of the protocol cause an error
 * of gRPC.
 */
import type { UnaryMethod } from '../../protocol/grpc.ts';
import { type Request, type Response, RPCS, type Rpc } from '../../protocol/messages.ts';
import { GrpcError, STATUS } from '../../protocol/status.ts';
import { decode, type Encodable, encode, type Fields, type MessageType, WireError } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';
import { applyResourceChange } from './apply.ts';
import type { Call } from './call.ts';
import {
  callFunction,
  closeEphemeralResource,
  openEphemeralResource,
  readDataSource,
  renewEphemeralResource,
  validateDataResourceConfig,
  validateEphemeralResourceConfig,
  validateResourceConfig,
} from './data.ts';
import type { Handler } from './handler.ts';
import { upgradeResourceIdentity } from './identity.ts';
import { planResourceChange } from './plan.ts';
import {
  configureProvider,
  getFunctions,
  getMetadata,
  getProviderSchema,
  getResourceIdentitySchemas,
  stopProvider,
  validateProviderConfig,
} from './provider.ts';
import { importResourceState, moveResourceState, readResource, upgradeResourceState } from './read.ts';
import type { Session } from './session.ts';

const HANDLERS: { readonly [R in Rpc]: Handler<R> } = {
  GetMetadata: getMetadata,
  GetProviderSchema: getProviderSchema,
  GetResourceIdentitySchemas: getResourceIdentitySchemas,
  ValidateProviderConfig: validateProviderConfig,
  ValidateResourceConfig: validateResourceConfig,
  ValidateDataResourceConfig: validateDataResourceConfig,
  ValidateEphemeralResourceConfig: validateEphemeralResourceConfig,
  UpgradeResourceState: upgradeResourceState,
  UpgradeResourceIdentity: upgradeResourceIdentity,
  ConfigureProvider: configureProvider,
  ReadResource: readResource,
  PlanResourceChange: planResourceChange,
  ApplyResourceChange: applyResourceChange,
  ImportResourceState: importResourceState,
  MoveResourceState: moveResourceState,
  ReadDataSource: readDataSource,
  OpenEphemeralResource: openEphemeralResource,
  RenewEphemeralResource: renewEphemeralResource,
  CloseEphemeralResource: closeEphemeralResource,
  GetFunctions: getFunctions,
  CallFunction: callFunction,
  StopProvider: stopProvider,
};

/** The fields of a failed answer besides its diagnostics. Without them, Terraform would lose the object. */
const KEPT: { readonly [R in Rpc]?: (request: Request<R>, message: string) => Response<R> } = {
  ReadResource: (request) => ({ new_state: request.current_state, private: request.private }),
  PlanResourceChange: (request) => ({ planned_state: request.prior_state, planned_private: request.prior_private }),
  ApplyResourceChange: (request) => ({ new_state: request.prior_state, private: request.planned_private }),
  CallFunction: (_request, text) => ({ error: { text } }),
  StopProvider: (_request, text) => ({ Error: text }),
};

type AnyMessage = Encodable<MessageType<Fields>>;

async function answer<R extends Rpc>(rpc: R, session: Session, bytes: Uint8Array, call: Call): Promise<Uint8Array> {
  const {
    request: requestType,
    response: responseType,
  }: { request: MessageType<Fields>; response: MessageType<Fields> } = RPCS[rpc];
  let request: Request<R>;
  try {
    request = decode(requestType, bytes) as Request<R>;
  } catch (error) {
    if (error instanceof WireError) throw new GrpcError(STATUS.INVALID_ARGUMENT, `${rpc}: ${error.message}`);
    throw error;
  }
  try {
    return encode(responseType, (await HANDLERS[rpc](session, request, call)) as AnyMessage);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    session.log.error(`${rpc} failed`, { error: error instanceof Error ? (error.stack ?? message) : message });
    if (error instanceof DiagnosticError) for (const diagnostic of error.diagnostics) call.diagnostics.add(diagnostic);
    else call.diagnostics.error(`The call ${rpc} failed`, message);
    const kept = KEPT[rpc]?.(request, message.toWellFormed()) ?? {};
    return encode(responseType, { ...kept, diagnostics: call.messages() } as AnyMessage);
  }
}

export function providerMethods(session: Session): Record<string, UnaryMethod> {
  return Object.fromEntries(
    (Object.keys(RPCS) as Rpc[]).map((rpc) => [
      `/tfplugin6.Provider/${rpc}`,
      (request: Uint8Array, cancelled: AbortSignal) =>
        session.run(cancelled, (call) => answer(rpc, session, request, call)),
    ]),
  );
}
