/**
 * Gives an open file or tap to a running QEMU, which may open none itself. It goes over a monitor socket of its own as
 * SCM_RIGHTS (unix(7)), together with a command.
 *
 * A short Perl program does this, because Node cannot send descriptors of files. Every Debian has Perl (ADR 15). It also
 * opens the file, which may lie on a file server that hangs.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { environment } from '../../system/command.ts';
import { QmpError, readable } from './qmp-messages.ts';

/** The number of sendmsg (asm/unistd.h). */
const sendmsg: Partial<Record<NodeJS.Architecture, number>> = { x64: 46, arm64: 211 };
const timeoutMs = 5_000;

/**
 * The functions of the program. QEMU is hostile, so the program reads at most 64 KiB of each answer. The structures are
 * msghdr and cmsghdr of 64-bit Linux.
 */
const functions = `
use strict;
use warnings;
use Fcntl;
use Socket;
my ($sendmsg, $path) = splice @ARGV, 0, 2;
my $monitor;
sub answer {
  my $line = '';
  while (length $line < 65536) {
    my $got = sysread $monitor, my $byte, 1;
    die "QEMU closed the monitor\\n" unless $got;
    return $line if $byte eq "\\n";
    $line .= $byte;
  }
  die "QEMU sent a line that is too long\\n";
}
sub result {
  for (1 .. 100) {
    my $line = answer();
    return $line if $line =~ /^\\{"(return|error)"/;
  }
  die "QEMU sent no answer\\n";
}
sub execute {
  syswrite $monitor, $_[0];
  return result();
}
sub execute_with {
  my ($command, $file) = @_;
  my $vector = pack 'P Q', $command, length $command;
  my $rights = pack 'Q l l l x4', 20, 1, 1, fileno $file; # SOL_SOCKET, SCM_RIGHTS
  my $message = pack 'Q L x4 P Q P Q l x4', 0, 0, $vector, 1, $rights, length $rights, 0;
  syscall($sendmsg + 0, fileno $monitor, $message, 0) == length $command or die "sendmsg: $!\\n";
  return result();
}
sub open_monitor {
  socket($monitor, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\\n";
  connect($monitor, pack_sockaddr_un($path)) or die "connect: $!\\n";
  answer();
  execute(qq({"execute": "qmp_capabilities"}\\n));
}
`;

/** The arguments are: path of the file, `r` or `r+`, command. */
const passFile = `
my ($volume, $mode, $command) = @ARGV;
sysopen my $file, $volume, ($mode eq 'r' ? O_RDONLY : O_RDWR) | O_NOFOLLOW or die "open: $!\\n";
open_monitor();
print execute_with($command, $file);
`;

/**
 * The arguments are: name of the tap, command that takes the descriptor, command that uses it, command that closes it. The
 * constants are those of linux/if_tun.h, as in taps.ts. QEMU knows the descriptor on this monitor only.
 */
const passOpenTap = `
my ($name, $take, $use, $close) = @ARGV;
my $request = pack 'Z16 S x22', $name, 0x0002 | 0x1000; # IFF_TAP, IFF_NO_PI
sysopen my $tap, '/dev/net/tun', 2 or die "/dev/net/tun: $!\\n";
ioctl $tap, 0x400454ca, $request or die "tap $name: $!\\n"; # TUNSETIFF
ioctl $tap, 0x400454cc, 0 or die "tap $name: $!\\n"; # TUNSETOWNER
open_monitor();
my $taken = execute_with($take, $tap);
my $used = $taken =~ /^\\{"return"/ ? execute($use) : $taken;
execute($close) if $used !~ /^\\{"return"/;
print $used;
`;

const line = (command: string, args: object): string => `${JSON.stringify({ execute: command, arguments: args })}\n`;

/** Runs the program for a monitor. @throws QmpError if QEMU does not take the descriptor */
async function pass(
  monitor: string,
  program: string,
  what: string,
  args: readonly string[],
  [first = 'perl', ...before]: readonly string[] = [],
): Promise<void> {
  const perl = ['-e', functions + program, `${sendmsg[process.arch] ?? 0}`, monitor, ...args];
  const child = spawn(first, before.length > 0 ? [...before, 'perl', ...perl] : perl, {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-1_000);
    });
  }
  const late = Promise.withResolvers<never>();
  // A process that waits for a file server cannot be killed.
  const timer = setTimeout(() => late.reject(new QmpError(`a ${what} could not be opened in time`)), timeoutMs + 1_000);
  try {
    const [code] = (await Promise.race([once(child, 'close'), late.promise])) as [number | null];
    if (code === 0 && output.startsWith('{"return"')) return;
    throw new QmpError(`QEMU did not take a ${what}: ${readable(output)}`);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Adds the file to a new descriptor set of QEMU, with the text `opaque` as its mark.
 * @param mode `r` for a file that is only read
 * @throws QmpError if QEMU does not take it
 */
export const passDescriptor = (monitor: string, path: string, opaque: string, mode: 'r' | 'r+' = 'r+'): Promise<void> =>
  pass(monitor, passFile, 'file', [path, mode, line('add-fd', { opaque })]);

/**
 * Opens the tap, which belongs to root, and makes it a network backend of QEMU.
 * @throws QmpError if QEMU does not take it, or if a process has the tap open
 */
export const passTap = (monitor: string, tap: string, netdev: string): Promise<void> =>
  pass(
    monitor,
    passOpenTap,
    'tap',
    [
      tap,
      line('getfd', { fdname: netdev }),
      line('netdev_add', { type: 'tap', id: netdev, fd: netdev, vhost: false }),
      line('closefd', { fdname: netdev }),
    ],
    // With this capability, the kernel would make a missing tap anew, without filter and settings.
    ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'],
  );
