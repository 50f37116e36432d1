/**
 * A seccomp filter that prevents a process from changing its taps. Pure.
 *
 * A process with an open tap can change the tap's MAC address, owner and persistence without any privilege
 * (drivers/net/tun.c). If a tap has the MAC address of another VM, the bridge keeps the frames to that VM for the host.
 * The filter refuses these calls. QEMU makes none of them with a tap that it gets open.
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

/** The request that sets the MAC address (linux/sockios.h). */
const SIOCSIFHWADDR = 0x8924;
/** The first and the last of TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETLINK and TUNSETGROUP (linux/if_tun.h). */
const TUNSETIFF = 0x400454ca;
const TUNSETGROUP = 0x400454ce;
/** System calls from this number on belong to the x32 interface of x86_64, in which ioctl has another number. */
const X32 = 0x40000000;

/** Offsets in `struct seccomp_data` (linux/seccomp.h). A request of ioctl is the lower 32 bits of its argument. */
const offsets = { number: 0, architecture: 4, request: 24 };

/** An instruction of classic BPF (linux/filter.h): code, jump if true, jump if false, value. */
type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];
const load = (offset: number): Instruction => [0x20, 0, 0, offset];
const ifEqual = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x15, ifTrue, ifFalse, value];
const ifGreater = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x25, ifTrue, ifFalse, value];
const ifAtLeast = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x35, ifTrue, ifFalse, value];
/** The call fails with EPERM. */
const refuse: Instruction = [0x06, 0, 0, 0x00050001];
const allow: Instruction = [0x06, 0, 0, 0x7fff0000];

/** The filter for one architecture. */
export interface TapFilter {
  /** The number of the system call prctl. */
  readonly prctl: number;
  /** The instructions in the kernel's format, 8 bytes each. */
  readonly instructions: Buffer;
}

/**
 * Returns the filter.
 * @throws Error if VMs do not run on the architecture
 */
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
