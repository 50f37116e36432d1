/**
 * The command line of a program that reads hostile bytes: limits first, then no privileges. Pure. Each program in the
 * line replaces itself with the next, so one signal ends the process.
 */

/** The limits of a program (setrlimit(2)). Sizes are in bytes. */
export interface ProgramLimits {
  readonly memory: number;
  readonly cpuSeconds: number;
  /** The size of each file that the program writes. */
  readonly fileSize: number;
  readonly openFiles: number;
}

/** Returns the command with its limits. */
export const limited = (command: readonly string[], limits: ProgramLimits): string[] => [
  'prlimit',
  `--as=${limits.memory}`,
  // The stack of each thread counts as memory.
  '--stack=1048576',
  `--cpu=${limits.cpuSeconds}`,
  `--fsize=${limits.fileSize}`,
  `--nofile=${limits.openFiles}`,
  '--core=0',
  ...command,
];

/** Returns the command without any privilege, as a user id that has no other use. The process ends with its parent. */
export const withoutPrivileges = (command: readonly string[], uid: number): string[] => [
  'setpriv',
  `--reuid=${uid}`,
  `--regid=${uid}`,
  '--clear-groups',
  '--no-new-privs',
  '--inh-caps=-all',
  '--bounding-set=-all',
  '--pdeathsig=KILL',
  ...command,
];
