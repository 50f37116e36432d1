/**
 * The interfaces of a VM in a plan: which of them stay, and the MAC addresses and IPv6 addresses that are known before the
 * apply.
 */
import type { PlanContext } from '../derive/contexts.ts';
import { UNKNOWN, type ValidateContext, type Value, type Values } from '../framework/index.ts';
import { formatAddress, normalAddress, parsePrefix } from '../net/ipv6.ts';
import { defaultMac, eui64Address, normalMac, parseMac } from '../net/mac.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import { plannedMac } from './vm-mac.ts';

export const isObject = (value: unknown): value is { readonly [key: string]: Value } =>
  typeof value === 'object' && value !== null;

/** Returns true for a reserved interface identifier (RFC 5453), which the API refuses. */
const isReserved = (id: bigint): boolean =>
  id === 0n ||
  (id >= 0x0200_5eff_fe00_0000n && id <= 0x0200_5eff_fe00_5212n) ||
  (id >= 0xfdff_ffff_ffff_ff80n && id <= 0xfdff_ffff_ffff_ffffn);

/** Checks the configured MAC addresses of a VM. Two addresses must differ in more than the first octet. */
export function checkMacs({ config, diagnostics }: ValidateContext<Values>): void {
  const seen = new Set<bigint>();
  const interfaces = Array.isArray(config.interfaces) ? (config.interfaces as readonly Value[]) : [];
  for (const [index, each] of interfaces.entries()) {
    const mac = isObject(each) && typeof each.mac === 'string' ? parseMac(each.mac) : undefined;
    if (mac === undefined) continue;
    const key = mac & 0xff_ffff_ffffn;
    const problem = seen.has(key)
      ? 'Another interface of this VM has the same address, or one that differs only in the first octet.'
      : isReserved(eui64Address({ network: 0n, length: 64 }, mac))
        ? 'Its interface identifier is reserved (RFC 5453).'
        : undefined;
    seen.add(key);
    if (problem) diagnostics.error('The MAC address cannot be used', problem, ['interfaces', index, 'mac']);
  }
}

type ObjectValue = { readonly [key: string]: Value };

const listOf = (value: Value | undefined): readonly Value[] =>
  Array.isArray(value) ? (value as readonly Value[]) : [];

/** Returns a text in its normal spelling; undefined for other values. */
function normal(value: Value | undefined, spelling: (text: string) => string | undefined): string | undefined {
  return typeof value === 'string' ? (spelling(value) ?? value) : undefined;
}

/**
 * Returns the present interface that each configured one means, by the rule of the API: by its MAC address, or else one of its
 * network, first of all one with the same `address`. So the order of the list changes no address.
 */
export function matchInterfaces(
  configured: readonly Value[],
  present: readonly ObjectValue[],
): (ObjectValue | undefined)[] {
  const free = new Set(present);
  const found = new Map<number, ObjectValue>();
  const take = (means: (entry: ObjectValue, candidate: ObjectValue) => boolean) => {
    for (const [index, entry] of configured.entries()) {
      if (found.has(index) || !isObject(entry)) continue;
      const candidate = present.find((each) => free.has(each) && means(entry, each));
      if (candidate === undefined) continue;
      free.delete(candidate);
      found.set(index, candidate);
    }
  };
  const isAlike = (entry: ObjectValue, candidate: ObjectValue) =>
    (entry.mac ?? null) === null && entry.network === candidate.network;
  take((entry, { mac }) => typeof entry.mac === 'string' && normal(entry.mac, normalMac) === normal(mac, normalMac));
  take(
    (entry, candidate) =>
      isAlike(entry, candidate) &&
      typeof entry.address === 'string' &&
      normal(entry.address, normalAddress) === normal(candidate.address, normalAddress),
  );
  take(isAlike);
  return configured.map((_entry, index) => found.get(index));
}

/** Plans the interfaces, and the address of the VM. */
export async function planInterfaces(ctx: PlanContext): Promise<void> {
  const { name, project, interfaces } = ctx.planned;
  if (!Array.isArray(interfaces)) return;
  const entries = interfaces as readonly Value[];
  const planned =
    ctx.prior === null
      ? await Promise.all(entries.map((each, index) => planInterface(ctx, each, index, { name, project })))
      : await planChange(ctx, entries, listOf(ctx.prior.interfaces).filter(isObject));
  const [first] = planned;
  const address = isObject(first) ? (first.address ?? UNKNOWN) : UNKNOWN;
  Object.assign(ctx.planned, { interfaces: planned, address });
}

/** Plans the interfaces of an existing VM. The API chooses the addresses of a new one. */
async function planChange(
  ctx: PlanContext,
  entries: readonly Value[],
  prior: readonly ObjectValue[],
): Promise<Value[]> {
  const configured = listOf(ctx.config.interfaces);
  const kept = matchInterfaces(configured, prior);
  // The old network is destroyed before the new one exists, so the VM must go before it.
  const isUnknown = configured.some((each) => isObject(each) && each.network === UNKNOWN);
  const isLost = (each: ObjectValue) => typeof each.network === 'string' && ctx.session?.deletions.has(each.network);
  if (isUnknown && prior.some((each) => !kept.includes(each) && isLost(each))) ctx.requiresReplace('interfaces');
  return Promise.all(
    entries.map(async (each, index): Promise<Value> => {
      const entry = configured[index];
      if (!isObject(each) || !isObject(entry)) return each;
      const present = kept[index];
      const { mac: givenMac = null, address: givenAddress = null } = entry;
      if (
        present !== undefined &&
        givenMac !== null &&
        entry.network !== UNKNOWN &&
        entry.network !== present.network
      ) {
        ctx.diagnostics.error(
          'An interface keeps its network',
          `The interface ${String(givenMac)} belongs to another network. Change or remove \`mac\` to get a new interface.`,
          ['interfaces', index, 'network'],
        );
      }
      const same = (name: string, given: Value, value: Value | undefined): Value =>
        given === null ? (value ?? UNKNOWN) : present && sameText(name, given, value) ? (value ?? given) : given;
      const mac = same('mac', givenMac, present?.mac);
      const known = present?.address ?? (typeof mac === 'string' ? await planAddress(ctx, each.network, mac) : UNKNOWN);
      return { ...each, mac, address: same('address', givenAddress, known) };
    }),
  );
}

/** Tells whether two spellings mean the same address. */
function sameText(name: string, a: Value, b: Value | undefined): boolean {
  const spelling = name === 'mac' ? normalMac : normalAddress;
  return typeof a === 'string' && typeof b === 'string' && normal(a, spelling) === normal(b, spelling);
}

/** Plans the MAC address and the IPv6 address, if they are not configured. The IPv6 address needs a known network. */
async function planInterface(
  ctx: PlanContext,
  plan: Value,
  index: number,
  vm: { readonly name: Value | undefined; readonly project: Value | undefined },
): Promise<Value> {
  if (!isObject(plan)) return plan;
  const configured = Array.isArray(ctx.config.interfaces) ? ctx.config.interfaces[index] : undefined;
  let { mac = null } = plan;
  if (isObject(configured) && configured.mac === null) {
    const { project, name } = vm;
    const known = typeof project === 'string' && typeof name === 'string';
    mac = (known && (await plannedMac(ctx, { project, name }, index))) || UNKNOWN;
  }
  if (isObject(configured)) checkConfiguredMac(ctx, configured.mac ?? null, index, vm);
  const chosen = isObject(configured) && (configured.address ?? null) !== null;
  return { ...plan, mac, address: chosen ? (plan.address ?? null) : await planAddress(ctx, plan.network, mac) };
}

/** Refuses an address that the API reserves for another VM. The API would refuse it only after a replacement's deletion. */
function checkConfiguredMac(
  { diagnostics }: PlanContext,
  given: Value,
  index: number,
  { name, project }: { readonly name: Value | undefined; readonly project: Value | undefined },
): void {
  if (typeof given !== 'string' || typeof name !== 'string' || typeof project !== 'string') return;
  const mac = normalMac(given);
  if (!mac?.startsWith('42:') || mac === defaultMac(project, name, index)) return;
  diagnostics.error(
    'This MAC address is reserved',
    `ucloud computes the addresses that begin with 42, and ${given} is not the one of this interface. Remove \`mac\`, or choose an address that begins with 02.`,
    ['interfaces', index, 'mac'],
  );
}

async function planAddress(ctx: PlanContext, network: Value | undefined, mac: Value): Promise<Value> {
  if (!ctx.session || typeof network !== 'string') return UNKNOWN;
  const item = await ctx.session.find(schemaOf('network').path, network, ctx.signal);
  if (!item) return UNKNOWN;
  const cidr = parsePrefix(String(item.cidr));
  const address = typeof mac === 'string' ? parseMac(mac) : undefined;
  return cidr && address !== undefined ? formatAddress(eui64Address(cidr, address)) : UNKNOWN;
}
