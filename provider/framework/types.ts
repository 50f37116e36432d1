/**
 * The parts of a provider: definitions of resources and other types, with their handlers. The framework speaks the plugin
 * protocol, checks configurations, makes plans, and keeps the rules that Terraform demands of a provider.
 *
 * A handler fails by an exception. A `DiagnosticError` contains the text for the user; any other error becomes a diagnostic
 * with its message. No exception of a handler ends the process.
 */

import type { Planned, Type, Value, Values } from '../protocol/values.ts';
import type { Attributes } from './attributes.ts';
import type { AttributePath, Diagnostics } from './diagnostics.ts';

/** Writes to Terraform's log (`TF_LOG`, `TF_LOG_PROVIDER`). Never log a secret: logs end up in bug reports. */
export interface Logger {
  trace(message: string, fields?: Readonly<Record<string, unknown>>): void;
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** The context of every handler. */
export interface CallContext {
  /**
   * Aborts when the user presses Ctrl-C, when Terraform has ended, and after the time limit, if there is one. Pass it to
   * every wait.
   */
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly diagnostics: Diagnostics;
}

/** The context of a handler that sends requests to the API. */
export interface ClientContext<Client, Session = unknown> extends CallContext {
  /** The client that `configure` returned. */
  readonly client: Client;
  /** The object that `startSession` returned for this connection of Terraform. */
  readonly session: Session;
}

/**
 * Data of one object. The state contains it as JSON, and Terraform does not show it to users. It must not contain secrets. A
 * replacement begins without data.
 */
export type PrivateState = { [key: string]: unknown };

/** A value, or a function that loads it: a definition behind `() => import(…)` loads at its first use. */
export type Lazy<T> = T | (() => Promise<T>);

// --- Resources ------------------------------------------------------------------------------------------------------

export interface ValidateContext<State> extends CallContext {
  /** The configuration. It may contain unknown values, which cannot be checked. */
  readonly config: Planned<State>;
  /**
   * True while Terraform plans or applies, when each instance of a block is validated again. False for the validation of
   * whole blocks, before the plan.
   */
  readonly configured: boolean;
}

export interface PlanContext<State, Client, Session = unknown> extends CallContext {
  /** The configured client; undefined while the provider's own configuration is not known yet. */
  readonly client: Client | undefined;
  /** The object that `startSession` returned; undefined as long as there is no client. */
  readonly session: Session | undefined;
  /** The planned action. Terraform plans a replacement as an update first, and then as a create without a prior state. */
  readonly action: 'create' | 'update';
  /** The existing object; null if the plan creates it, also as a replacement. */
  readonly prior: State | null;
  /** The configuration, with write-only values. An attribute without a value is null. */
  readonly config: Planned<State>;
  /**
   * The plan so far: configured values, defaults, unchanged computed values, and UNKNOWN for values that the apply decides.
   * The handler changes it in place: it may set a computed attribute without a configured value, also to UNKNOWN. It must
   * not change configured values.
   */
  readonly planned: Planned<State>;
  /** Returns true if the planned value at this path differs from the prior one. Always true for a create. */
  changed(...path: AttributePath): boolean;
  /** Demands that a change of this attribute replaces the object. */
  requiresReplace(...path: AttributePath): void;
  /** The data of the last apply. The create or update gets the changes that the handler makes here. */
  readonly private: PrivateState;
}

export interface CreateContext<State, Client, Session = unknown> extends ClientContext<Client, Session> {
  /** The plan; UNKNOWN for values that the handler decides. */
  readonly planned: Planned<State>;
  /** The configuration. Only the configuration contains write-only values. */
  readonly config: Planned<State>;
  /**
   * Saves the known attributes of the object, at least its id. The handler calls this as soon as the API has answered, and
   * before any wait. The state then contains these attributes even if a wait fails or times out, the user presses Ctrl-C,
   * or the handler has a bug. After a failure the object is tainted. After Ctrl-C it is not, and the next apply continues.
   * The handler may call this again with more attributes. A missing attribute keeps its planned value.
   */
  save(state: Partial<State>): void;
  /** The time limit of this call in milliseconds (the `timeouts` attribute or the definition's default), or undefined. */
  readonly timeout: number | undefined;
  readonly private: PrivateState;
}

export interface ReadContext<State, Client, Session = unknown> extends ClientContext<Client, Session> {
  /** The attributes in the state. After an import: the attributes from `import`, and null for all others. */
  readonly state: State;
  readonly timeout: number | undefined;
  readonly private: PrivateState;
}

export interface UpdateContext<State, Client, Session = unknown> extends CreateContext<State, Client, Session> {
  readonly prior: State;
  /** Returns true if the planned value at this path differs from the prior one. */
  changed(...path: AttributePath): boolean;
}

export interface DeleteContext<State, Client, Session = unknown> extends ClientContext<Client, Session> {
  readonly state: State;
  readonly timeout: number | undefined;
  readonly private: PrivateState;
}

export interface ImportContext<Client, Session = unknown> extends ClientContext<Client, Session> {
  readonly private: PrivateState;
}

export interface PlanDestroyContext<State, Client, Session = unknown> extends CallContext {
  readonly client: Client | undefined;
  readonly session: Session | undefined;
  readonly state: State;
}

/** An object of another type or provider that a `moved` block brings to this one. */
export interface MoveSource {
  /** The provider's address, such as `registry.terraform.io/hashicorp/null`. */
  readonly providerAddress: string;
  /** The name of the type, such as `null_resource`. */
  readonly typeName: string;
  readonly schemaVersion: number;
  /** The stored state, parsed from JSON. */
  readonly state: Readonly<Record<string, unknown>>;
  /** The private data of its provider, if it is a JSON object; else empty. */
  readonly private: Readonly<PrivateState>;
}

export interface MoveContext extends CallContext {
  /** The data to keep with the object from now on. */
  readonly private: PrivateState;
}

/**
 * The permanent identity of an object of this type, next to its state (protocol 6.9, Terraform 1.12). Users can import an
 * object by its identity. `attributes` are strings, numbers, bools or lists of these.
 */
export interface IdentityDefinition<State> {
  /** The version of the attributes. Raise it for a change that stored identities do not fit. Default: 0. */
  version?: number;
  attributes: Readonly<Record<string, { type: Type; description: string; requiredForImport?: boolean }>>;
  /** Returns the identity of an object with this state. */
  of(state: State): Values;
  /** Returns the import id for this identity. The framework calls `import` with it. */
  importId(identity: Values): string;
  /** `upgrade[n]` converts an identity from version n to version n + 1. Identities are as stored, parsed from JSON. */
  upgrade?: Readonly<Record<number, (identity: Readonly<Record<string, unknown>>) => Record<string, unknown>>>;
}

/**
 * A resource type. State is the type of an object's attributes if all values are known. An optional attribute without a
 * value is null.
 *
 * The results of create, read and update may omit attributes. An omitted attribute keeps its planned value (create, update)
 * or its value in the state (read). Handlers never return write-only attributes and `timeouts`.
 */
export interface ResourceDefinition<State extends object = Values, Client = unknown, Session = unknown> {
  /** For users, in Markdown. */
  description: string;
  /** The version of the schema. Raise it for a change of attributes that old states do not fit. Default: 0. */
  version?: number;
  attributes: Attributes;
  deprecated?: string;
  /** Checks rules for several attributes. Rules for one attribute belong to the attribute. No I/O: a plan calls it often. */
  validate?(ctx: ValidateContext<State>): void | Promise<void>;
  /** Completes the plan: sets known values, and makes values UNKNOWN that an update will change. It may call the API. */
  modifyPlan?(ctx: PlanContext<State, Client, Session>): void | Promise<void>;
  /** Called for the plan of a destroy. It may warn or refuse, for instance for delete protection. */
  planDestroy?(ctx: PlanDestroyContext<State, Client, Session>): void | Promise<void>;
  create(ctx: CreateContext<State, Client, Session>): Promise<Partial<State>>;
  /** Returns the existing object; undefined if there is none. The next plan then creates it. */
  read(ctx: ReadContext<State, Client, Session>): Promise<Partial<State> | undefined>;
  /** Changes the object. Undefined if a change of any configurable attribute requires a replacement. */
  update?(ctx: UpdateContext<State, Client, Session>): Promise<Partial<State>>;
  /** Deletes the object, and resolves when it is gone. Also resolves if it does not exist. */
  delete(ctx: DeleteContext<State, Client, Session>): Promise<void>;
  /**
   * Finds the object for the id of `terraform import`. Returns at least the attributes that `read` needs; undefined if there
   * is no object. By default, the id becomes the attribute `id`. `import: false` refuses imports.
   */
  import?: false | ((id: string, ctx: ImportContext<Client, Session>) => Promise<Partial<State> | undefined>);
  /** `upgrade[n]` converts a state from version n to version n + 1. States are as stored, parsed from JSON. */
  upgrade?: Readonly<Record<number, (state: Readonly<Record<string, unknown>>) => Record<string, unknown>>>;
  /** Returns the state for an object of another type after a `moved` block; undefined if the move is not possible. */
  moveFrom?(source: MoveSource, ctx: MoveContext): Promise<Partial<State> | undefined>;
  /**
   * The default timeouts (`'20m'`, `'1h30m'`). Users can change these in the attribute `timeouts`, which the framework adds
   * to the schema. After a timeout, `ctx.signal` aborts.
   */
  timeouts?: Readonly<Partial<Record<'create' | 'read' | 'update' | 'delete', string>>>;
  identity?: IdentityDefinition<State>;
}

// --- Data sources, functions, ephemeral resources -------------------------------------------------------------------

export interface DataContext<State, Client, Session = unknown> extends ClientContext<Client, Session> {
  readonly config: State;
  readonly timeout: number | undefined;
}

/** A data source type. Attributes that `read` omits keep their configured values. `read` throws if there is no object. */
export interface DataSourceDefinition<State extends object = Values, Client = unknown, Session = unknown> {
  description: string;
  attributes: Attributes;
  deprecated?: string;
  validate?(ctx: ValidateContext<State>): void | Promise<void>;
  read(ctx: DataContext<State, Client, Session>): Promise<Partial<State>>;
  timeouts?: Readonly<{ read: string }>;
}

export interface FunctionParameter {
  name: string;
  type: Type;
  description: string;
  /** True if the function accepts null. Otherwise Terraform refuses null without calling the function. */
  allowNull?: boolean;
  /** True if the function accepts unknown values. Otherwise an unknown argument makes the result unknown. */
  allowUnknown?: boolean;
  /** Returns the violation of a known argument that is not null. */
  validate?(value: Value): string | undefined;
}

/** A pure function for `provider::ucloud::name(…)`, which needs no configured provider. It may throw `FunctionError`. */
export interface FunctionDefinition<Arguments extends readonly unknown[] = readonly Value[]> {
  /** The summary, in one line. */
  summary: string;
  description: string;
  parameters: readonly FunctionParameter[];
  /** The parameter for any number of further arguments, which follow the others in `args`. */
  variadic?: FunctionParameter;
  returns: Type;
  deprecated?: string;
  run(args: Arguments, ctx: CallContext): Value | Promise<Value>;
}

/** The error of a function call. With `argument`, an index from 0, Terraform shows that argument. */
export class FunctionError extends Error {
  override readonly name = 'FunctionError';
  readonly argument: number | undefined;
  constructor(message: string, argument?: number) {
    super(message);
    this.argument = argument;
  }
}

export interface EphemeralOpened<State> {
  result: Partial<State>;
  /** The time at which Terraform calls `renew` if the value is still in use. */
  renewAt?: Date;
  /** Data for `renew` and `close`, for instance the id of the token. */
  private?: PrivateState;
}

/** An ephemeral resource type: a value for one run, which neither plan nor state contains. */
export interface EphemeralDefinition<State extends object = Values, Client = unknown, Session = unknown> {
  description: string;
  attributes: Attributes;
  deprecated?: string;
  validate?(ctx: ValidateContext<State>): void | Promise<void>;
  open(ctx: ClientContext<Client, Session> & { readonly config: State }): Promise<EphemeralOpened<State>>;
  renew?(
    ctx: ClientContext<Client, Session> & { readonly private: PrivateState },
  ): Promise<{ renewAt?: Date; private?: PrivateState }>;
  close?(ctx: ClientContext<Client, Session> & { readonly private: PrivateState }): Promise<void>;
}

// --- The provider ---------------------------------------------------------------------------------------------------

export interface ConfigureContext<Config> extends CallContext {
  /** The provider block. In a plan, values may be unknown that come from a resource before its creation. */
  readonly config: Planned<Config>;
  /** Version of the calling Terraform, `1.11.4`. */
  readonly terraformVersion: string;
}

export interface ProviderDefinition<Client = unknown, Config extends object = Values, Session = unknown> {
  /** Prefix of all type names, without the underscore: `ucloud`. */
  name: string;
  /** Full source address, for instance `ucloud.localhost/ucloud/ucloud`; used by the reattach mode. */
  address: string;
  version: string;
  description: string;
  /** The provider block's attributes. */
  attributes: Attributes;
  validate?(ctx: ValidateContext<Config>): void | Promise<void>;
  /**
   * Returns the client; undefined if a necessary value is not known yet. Then plans have no client, reads keep the state as
   * it is, and data sources that must be read now fail with an explanation.
   */
  configure(ctx: ConfigureContext<Config>): Promise<Client | undefined>;
  /**
   * Returns the bookkeeping of one run, for instance the planned objects. The server calls this after `configure`, and passes
   * the result to all handlers of the same connection of Terraform.
   */
  startSession?(client: Client): Promise<Session>;
  /** Resource types by name without the prefix: `{ vm: () => import('./vm.ts').then((m) => m.vm) }`. */
  resources?: Readonly<Record<string, Lazy<ResourceDefinition<object, Client, Session>>>>;
  dataSources?: Readonly<Record<string, Lazy<DataSourceDefinition<object, Client, Session>>>>;
  functions?: Readonly<Record<string, Lazy<FunctionDefinition<never>>>>;
  ephemeral?: Readonly<Record<string, Lazy<EphemeralDefinition<object, Client, Session>>>>;
}

/** Returns the definition, and checks its types in the file that contains it. */
export function defineResource<State extends object, Client, Session = unknown>(
  definition: ResourceDefinition<State, Client, Session>,
): ResourceDefinition<State, Client, Session> {
  return definition;
}

export function defineDataSource<State extends object, Client, Session = unknown>(
  definition: DataSourceDefinition<State, Client, Session>,
): DataSourceDefinition<State, Client, Session> {
  return definition;
}

export function defineFunction<Arguments extends readonly unknown[]>(
  definition: FunctionDefinition<Arguments>,
): FunctionDefinition<Arguments> {
  return definition;
}

export function defineEphemeral<State extends object, Client, Session = unknown>(
  definition: EphemeralDefinition<State, Client, Session>,
): EphemeralDefinition<State, Client, Session> {
  return definition;
}
