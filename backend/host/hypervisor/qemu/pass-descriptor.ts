/**
 * Gives an open file to a running QEMU, which may open no file itself. The file goes over a monitor socket of its own as
 * SCM_RIGHTS (unix(7)), together with the command `add-fd`.
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
 * The arguments are: number of sendmsg, path of the socket, path of the file, `r` or `r+`, command. QEMU is hostile, so the
 * program reads at most 64 KiB of each answer. The structures are msghdr and cmsghdr of 64-bit Linux.
 */
const program = `
use strict;
use warnings;
use Fcntl;
use Socket;
my ($sendmsg, $path, $volume, $mode, $command) = @ARGV;
sysopen my $file, $volume, ($mode eq 'r' ? O_RDONLY : O_RDWR) | O_NOFOLLOW or die "open: $!\\n";
socket(my $monitor, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\\n";
connect($monitor, pack_sockaddr_un($path)) or die "connect: $!\\n";
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
answer();
syswrite $monitor, qq({"execute": "qmp_capabilities"}\\n);
result();
my $vector = pack 'P Q', $command, length $command;
my $rights = pack 'Q l l l x4', 20, 1, 1, fileno $file; # SOL_SOCKET, SCM_RIGHTS
my $message = pack 'Q L x4 P Q P Q l x4', 0, 0, $vector, 1, $rights, length $rights, 0;
syscall($sendmsg + 0, fileno $monitor, $message, 0) == length $command or die "sendmsg: $!\\n";
print result();
`;

/**
 * Adds the file to a new descriptor set of QEMU, with the text `opaque` as its mark.
 * @param mode `r` for a file that is only read
 * @throws QmpError if QEMU does not take it
 */
export async function passDescriptor(
  monitor: string,
  path: string,
  opaque: string,
  mode: 'r' | 'r+' = 'r+',
): Promise<void> {
  const command = `${JSON.stringify({ execute: 'add-fd', arguments: { opaque } })}\n`;
  const child = spawn('perl', ['-e', program, `${sendmsg[process.arch] ?? 0}`, monitor, path, mode, command], {
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
  const timer = setTimeout(() => late.reject(new QmpError('a file could not be opened in time')), timeoutMs + 1_000);
  try {
    const [code] = (await Promise.race([once(child, 'close'), late.promise])) as [number | null];
    if (code === 0 && output.startsWith('{"return"')) return;
    throw new QmpError(`QEMU did not take a file: ${readable(output)}`);
  } finally {
    clearTimeout(timer);
  }
}
