/**
 * A provider that does nothing: it has the schema of the real one and repeats the answers of a recorded state. A run of
 * Terraform with it costs what Terraform itself and three starts of Node cost.
 *
 * Environment: UCLOUD_BENCH_STATE names the state file with the objects that it creates and reads.
 */
import { readFileSync } from 'node:fs';
import { ExtData, encode as pack, decode as unpack } from '@msgpack/msgpack';
import { type Request, type Response, RPCS, type Rpc } from '../../provider/protocol/messages.ts';
import { servePlugin } from '../../provider/protocol/plugin.ts';
import { decode, type Encodable, encode, type Fields, type MessageType } from '../../provider/protocol/wire.ts';
import { encodedSchema } from '../../provider/schema/encoded-schema.ts';

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type RecordedObject = { [name: string]: Json };

interface RecordedState {
  readonly resources: readonly {
    readonly type: string;
    readonly instances: readonly { readonly attributes: RecordedObject }[];
  }[];
}

let recorded: Map<string, RecordedObject> | undefined;

/** Returns the recorded object that has the type, and the name in the configuration. */
function recordedObject(type: string, config: Bytes): RecordedObject {
  if (recorded === undefined) {
    const state = JSON.parse(readFileSync(process.env.UCLOUD_BENCH_STATE ?? '', 'utf8')) as RecordedState;
    const entries = state.resources.flatMap(({ type, instances }) =>
      instances.map(({ attributes }): [string, RecordedObject] => [`${type}/${attributes.name}`, attributes]),
    );
    recorded = new Map(entries);
  }
  const { name } = unpack(config.msgpack) as { name: string };
  const object = recorded.get(`${type}/${name}`);
  if (object === undefined) throw new Error(`the recorded state has no ${type} "${name}"`);
  return object;
}

type Bytes = { readonly msgpack: Uint8Array };
const none: Bytes = { msgpack: Uint8Array.of(0xc0) };
const isNone = ({ msgpack }: Bytes): boolean => msgpack[0] === 0xc0;
const json = (object: RecordedObject) => ({ json: Buffer.from(JSON.stringify(object)) });

/** Terraform's encoding of an unknown value. */
const unknown = new ExtData(0, Uint8Array.of(0));

/** Returns the planned value: unknown if the configuration leaves it to the provider. */
function planned(proposed: unknown, actual: Json | undefined): unknown {
  if (proposed === null) return actual === null || actual === undefined ? null : unknown;
  if (Array.isArray(proposed)) return proposed.map((element, i) => planned(element, (actual as Json[])[i]));
  if (typeof proposed !== 'object' || proposed instanceof ExtData) return proposed;
  return Object.fromEntries(
    Object.entries(proposed).map(([name, value]) => [name, planned(value, (actual as RecordedObject)[name])]),
  );
}

const handlers: { readonly [R in Rpc]?: (request: Request<R>) => Response<R> } = {
  ValidateProviderConfig: () => ({}),
  ValidateResourceConfig: () => ({}),
  ValidateDataResourceConfig: () => ({}),
  ConfigureProvider: () => ({}),
  StopProvider: () => ({}),
  UpgradeResourceState: ({ raw_state }) => ({ upgraded_state: { json: raw_state?.json ?? new Uint8Array() } }),
  ReadResource: ({ current_state, private: kept }) => ({ new_state: current_state, private: kept }),
  ReadDataSource: ({ type_name, config = none }) => ({ state: json(recordedObject(type_name, config)) }),
  PlanResourceChange({ type_name, prior_state = none, proposed_new_state = none, config = none }) {
    if (!isNone(prior_state) || isNone(proposed_new_state)) return { planned_state: proposed_new_state };
    const state = planned(unpack(proposed_new_state.msgpack), recordedObject(type_name, config));
    return { planned_state: { msgpack: pack(state) } };
  },
  ApplyResourceChange: ({ type_name, planned_state = none, config = none }) =>
    isNone(planned_state) ? { new_state: planned_state } : { new_state: json(recordedObject(type_name, config)) },
};

const schema = Buffer.from(encodedSchema ?? '', 'base64');
const unary = Object.fromEntries(
  Object.entries(handlers).map(([name, handler]) => {
    const { request, response } = RPCS[name as Rpc];
    const answer = handler as (request: object) => Encodable<MessageType<Fields>>;
    return [
      `/tfplugin6.Provider/${name}`,
      async (bytes: Uint8Array) => encode(response as MessageType<Fields>, answer(decode(request, bytes))),
    ];
  }),
);
// The bundle is CommonJS, which has no await outside of functions.
servePlugin({
  connect: () => ({ unary: { ...unary, '/tfplugin6.Provider/GetProviderSchema': async () => schema } }),
  environment: process.env,
  onError: (error) => console.error(error),
}).then(async (server) => {
  process.stdout.write(`${server.line}\n`);
  await server.closed;
  process.exit(0);
});
