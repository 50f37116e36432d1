/**
 * The parts of a provider: definitions of resources and other types, with their handlers. The framework speaks the plugin
 * protocol, checks configurations, makes plans, and keeps the rules that Terraform demands of a provider.
 *
 * Handlers fail by throwing: a `DiagnosticError` says exactly what the user should read, any other error becomes a
 * diagnostic with its message. Nothing a handler throws ends the process.
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
   * Aborts when the user presses Ctrl-C, when Terraform is gone and, where a timeout applies, when it has passed. Pass it
   * to every wait.
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
 * Data that belongs to one object, kept as JSON in the state beside the attributes and not shown to users. No secrets. The
 * object that replaces another begins without any.
 */
export type PrivateState = { [key: string]: unknown };

/** A thing, or a function that loads it: definitions behind `() => import(…)` cost nothing until they are used. */
export type Lazy<T> = T | (() => Promise<T>);

// --- Resources ------------------------------------------------------------------------------------------------------

export interface ValidateContext<State> extends CallContext {
  /** The configuration; may hold unknown values, on which no check can be made. */
  readonly config: Planned<State>;
}

export interface PlanContext<State, Client, Session = unknown> extends CallContext {
  /** The configured client; undefined while the provider's own configuration is not known yet. */
  readonly client: Client | undefined;
  /** The object that `startSession` returned; undefined as long as there is no client. */
  readonly session: Session | undefined;
  /** The planned action. Terraform plans a replacement as an update first, and then as a create without a prior state. */
  readonly action: 'create' | 'update';
  /** The object as it is; null when it is to be created (also as a replacement). */
  readonly prior: State | null;
  /** The configuration, with write-only values. Unset is null. */
  readonly config: Planned<State>;
  /**
   * The plan so far: configuration, defaults, kept computed values, UNKNOWN for what apply decides. Change it in place:
   * a computed attribute that the configuration leaves unset may be given a value or made UNKNOWN. Values that the user
   * configured are not the provider's to change.
   */
  readonly planned: Planned<State>;
  /** Returns true if the planned value at this path differs from the prior one. Always true for a create. */
  changed(...path: AttributePath): boolean;
  /** Demands that a change of this attribute replaces the object. */
  requiresReplace(...path: AttributePath): void;
  /** Kept from the last apply; what is put here reaches the create or update. */
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
  /** Milliseconds that this call may take in all (the `timeouts` attribute or the definition's default), or undefined. */
  readonly timeout: number | undefined;
  readonly private: PrivateState;
}

export interface ReadContext<State, Client, Session = unknown> extends ClientContext<Client, Session> {
  /** The attributes in the state. After an import: those that `import` returned, all others null. */
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
  /** `registry.terraform.io/hashicorp/null` */
  readonly providerAddress: string;
  /** `null_resource` */
  readonly typeName: string;
  readonly schemaVersion: number;
  /** Its state as stored, parsed from JSON. */
  readonly state: Readonly<Record<string, unknown>>;
  /** The private data of its provider, if it is a JSON object; else empty. */
  readonly private: Readonly<PrivateState>;
}

export interface MoveContext extends CallContext {
  /** The data to keep with the object from now on. */
  readonly private: PrivateState;
}

/**
 * The permanent identity of an object of this type, beside its state (protocol 6.9, Terraform 1.12). Users may import by
 * it. `attributes` are strings, numbers, bools or lists of these.
 */
export interface IdentityDefinition<State> {
  /** Raise it when the attributes change in a way that stored identities do not fit. Default 0. */
  version?: number;
  attributes: Readonly<Record<string, { type: Type; description: string; requiredForImport?: boolean }>>;
  /** The identity of an object that has this state. */
  of(state: State): Values;
  /** The import id that stands for this identity; `import` is then called with it. */
  importId(identity: Values): string;
  /** `upgrade[n]` makes an identity of version n into one of version n + 1. They are as stored, parsed from JSON. */
  upgrade?: Readonly<Record<number, (identity: Readonly<Record<string, unknown>>) => Record<string, unknown>>>;
}

/**
 * A resource type. State is the type of an object's attributes when everything is known; optional attributes that are
 * not set are null.
 *
 * In what create, read and update return, an attribute may be left out: it then keeps its planned value (create and
 * update) or the value in the state (read). Write-only attributes and `timeouts` are the framework's and never returned.
 */
export interface ResourceDefinition<State extends object = Values, Client = unknown, Session = unknown> {
  /** For users, in Markdown. */
  description: string;
  /** Version of the schema; raise it when an attribute changes in a way that old states do not fit. Default 0. */
  version?: number;
  attributes: Attributes;
  deprecated?: string;
  /** Rules over several attributes. Those of a single one belong to the attribute. No I/O: runs several times a plan. */
  validate?(ctx: ValidateContext<State>): void | Promise<void>;
  /** Makes the plan exact: fills in what can be known, marks what an update will change. May ask the API. */
  modifyPlan?(ctx: PlanContext<State, Client, Session>): void | Promise<void>;
  /** Called when a destroy is planned: to warn, or to refuse (delete protection). */
  planDestroy?(ctx: PlanDestroyContext<State, Client, Session>): void | Promise<void>;
  create(ctx: CreateContext<State, Client, Session>): Promise<Partial<State>>;
  /** The object as it is now, or undefined when there is none: the next plan then creates it. */
  read(ctx: ReadContext<State, Client, Session>): Promise<Partial<State> | undefined>;
  /** Left out when every attribute that can be configured requires replacement. */
  update?(ctx: UpdateContext<State, Client, Session>): Promise<Partial<State>>;
  /** Returns when the object is gone. An object that does not exist is a success. */
  delete(ctx: DeleteContext<State, Client, Session>): Promise<void>;
  /**
   * Finds the object for what the user gave to `terraform import`: at least what `read` needs, or undefined when there is
   * none. Left out: the text becomes the attribute `id`. `import: false` refuses.
   */
  import?: false | ((id: string, ctx: ImportContext<Client, Session>) => Promise<Partial<State> | undefined>);
  /** `upgrade[n]` makes a state of version n into one of version n + 1. States are as stored, parsed from JSON. */
  upgrade?: Readonly<Record<number, (state: Readonly<Record<string, unknown>>) => Record<string, unknown>>>;
  /** The state for an object of another type that was moved here, or undefined when that is not possible. */
  moveFrom?(source: MoveSource, ctx: MoveContext): Promise<Partial<State> | undefined>;
  /**
   * Default timeouts (`'20m'`, `'1h30m'`). Each one given here can be set by users in the attribute `timeouts`, which the
   * framework adds to the schema. When one passes, `ctx.signal` aborts.
   */
  timeouts?: Readonly<Partial<Record<'create' | 'read' | 'update' | 'delete', string>>>;
  identity?: IdentityDefinition<State>;
}

// --- Data sources, functions, ephemeral resources -------------------------------------------------------------------

export interface DataContext<State, Client, Session = unknown> extends ClientContext<Client, Session> {
  readonly config: State;
  readonly timeout: number | undefined;
}

/** A data source type. An attribute that `read` leaves out keeps its configured value. `read` throws if there is no object. */
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
  /** Without it Terraform refuses null before the function is called. */
  allowNull?: boolean;
  /** Without it Terraform answers unknown by itself when an argument is unknown. */
  allowUnknown?: boolean;
  /** Returns the violation of a known argument that is not null. */
  validate?(value: Value): string | undefined;
}

/** A function: pure, needs no configuration, called as `provider::ucloud::name(…)`. Throw `FunctionError` to refuse. */
export interface FunctionDefinition<Arguments extends readonly unknown[] = readonly Value[]> {
  /** One line. */
  summary: string;
  description: string;
  parameters: readonly FunctionParameter[];
  /** Takes any number of further arguments; they follow the others in `args`. */
  variadic?: FunctionParameter;
  returns: Type;
  deprecated?: string;
  run(args: Arguments, ctx: CallContext): Value | Promise<Value>;
}

/** Refuses a function call; with `argument` (from 0) Terraform points at that argument. */
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
  /** When `renew` must be called, if the value is still in use then. */
  renewAt?: Date;
  /** Handed to `renew` and `close`: what these need, for instance the id of the token. */
  private?: PrivateState;
}

/** An ephemeral resource type: a value that exists during one run and is kept in neither plan nor state. */
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
  /** The provider block. Values may be unknown while planning, when they come from a resource not created yet. */
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
   * Makes the client. Undefined says: something needed is unknown yet. Then plans are made without a client, reads keep
   * the state as it is, and data sources that must be read now fail with a message that says why.
   */
  configure(ctx: ConfigureContext<Config>): Promise<Client | undefined>;
  /**
   * Makes the bookkeeping of one run: what was planned so far, for instance. The server calls this after `configure`, and
   * hands the result to all handlers that serve the same connection of Terraform.
   */
  startSession?(client: Client): Promise<Session>;
  /** Resource types by name without the prefix: `{ vm: () => import('./vm.ts').then((m) => m.vm) }`. */
  resources?: Readonly<Record<string, Lazy<ResourceDefinition<object, Client, Session>>>>;
  dataSources?: Readonly<Record<string, Lazy<DataSourceDefinition<object, Client, Session>>>>;
  functions?: Readonly<Record<string, Lazy<FunctionDefinition<never>>>>;
  ephemeral?: Readonly<Record<string, Lazy<EphemeralDefinition<object, Client, Session>>>>;
}

/** Type-checks a definition where it is written. */
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
