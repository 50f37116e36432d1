/**
 * A seccomp filter that keeps a process from changing its taps. Pure.
 *
 * The kernel lets a process that has a tap open change the tap's MAC address, owner and persistence, without any
 * privilege (drivers/net/tun.c). With the MAC address of another VM, the bridge would take the frames to that VM for the
 * host's own. The filter refuses these calls; QEMU makes none of them with a tap that it gets open.
 */

interface SystemCalls {
  /** AUDIT_ARCH_* of linux/audit.h. */
  readonly architecture: number;
  readonly prctl: number;
  readonly ioctl: number;
}

const systemCalls: Partial<Record<NodeJS.Architecture, SystemCalls>> = {
  x64: { architecture: 0xc000003e, prctl: 157, ioctl: 16 },
  arm64: { architecture: 0xc00000b7, prctl: 167, ioctl: 29 },
};

/** linux/sockios.h: sets the MAC address. */
const SIOCSIFHWADDR = 0x8924;
/** linux/if_tun.h: the first and the last of TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETLINK and TUNSETGROUP. */
const TUNSETIFF = 0x400454ca;
const TUNSETGROUP = 0x400454ce;
/** Numbers from here on are of the x32 interface of x86_64, in which ioctl has another number. */
const X32 = 0x40000000;

/** Offsets in `struct seccomp_data` (linux/seccomp.h). Requests of ioctl have 32 bits: the low half of the argument. */
const offsets = { number: 0, architecture: 4, request: 24 };

/** An instruction of classic BPF (linux/filter.h): code, jumps if true and if false, value. */
type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];
const load = (offset: number): Instruction => [0x20, 0, 0, offset];
const ifEqual = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x15, ifTrue, ifFalse, value];
const ifGreater = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x25, ifTrue, ifFalse, value];
const ifAtLeast = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x35, ifTrue, ifFalse, value];
/** EPERM. */
const refuse: Instruction = [0x06, 0, 0, 0x00050001];
const allow: Instruction = [0x06, 0, 0, 0x7fff0000];

export interface TapFilter {
  /** Number of the system call prctl. */
  readonly prctl: number;
  /** Instructions of 8 bytes, as the kernel takes them. */
  readonly instructions: Buffer;
}

/** @throws Error for an architecture on which no VM runs */
export function tapFilter(architecture: NodeJS.Architecture = process.arch): TapFilter {
  const calls = systemCalls[architecture];
  if (!calls) throw new Error(`VMs do not run on ${architecture}`);
  const program: readonly Instruction[] = [
    load(offsets.architecture),
    ifEqual(calls.architecture, 0, 8),
    load(offsets.number),
    ifAtLeast(X32, 6, 0),
    ifEqual(calls.ioctl, 0, 4),
    load(offsets.request),
    ifEqual(SIOCSIFHWADDR, 3, 0),
    ifAtLeast(TUNSETIFF, 0, 1),
    ifGreater(TUNSETGROUP, 0, 1),
    allow,
    refuse,
  ];
  const instructions = Buffer.alloc(8 * program.length);
  program.forEach(([code, ifTrue, ifFalse, value], index) => {
    instructions.writeUInt16LE(code, 8 * index);
    instructions.writeUInt8(ifTrue, 8 * index + 2);
    instructions.writeUInt8(ifFalse, 8 * index + 3);
    instructions.writeUInt32LE(value, 8 * index + 4);
  });
  return { prctl: calls.prctl, instructions };
}
