/**
 * The command line that gives a program its taps as open descriptors, and no way to open a tap again. Pure. ADR 15
 * (docs/adr/0015-root-opens-taps-by-a-perl-program.md) contains the reasons.
 *
 * A tap with IFF_VNET_HDR takes an instruction with each frame (virtio 1.2, 5.1.6). The kernel then writes a checksum
 * at a place that the sender chooses. The kernel writes it after all filters have seen the frame. A guest could therefore
 * change two bytes: an echo request becomes a router advertisement, or the source address becomes that of another VM.
 * The agent therefore opens taps without this flag, and QEMU offers guests no offloads.
 *
 * The process that opens a tap chooses the flag. A process with an open tap can make itself the owner of the tap. Taps
 * therefore belong to root, and root opens them before it drops its privileges. For the program, /dev/net/tun is
 * /dev/null. The devices of vhost are /dev/null too, because they also pass instructions to a tap.
 *
 * A seccomp filter prevents the program from changing its taps (tap-seccomp.ts).
 *
 * A short Perl program does this, because Node has no ioctl. Every Debian has Perl (perl-base is essential).
 */
import { tapFilter } from './tap-seccomp.ts';

/** The descriptor of the first tap. The taps follow the descriptors of `Launch`. */
export const firstTapDescriptor = 12;

/**
 * The arguments are: number of prctl, filter instructions in hex, first descriptor, number of taps, taps, program. The
 * constants are those of linux/if_tun.h and linux/prctl.h.
 */
const openTaps = `
use strict;
use warnings;
$^F = 1024; # Perl closes no descriptor below this number when the program starts.
my ($prctl, $instructions, $first, $count) = splice @ARGV, 0, 4;
my @taps;
for my $name (splice @ARGV, 0, $count) {
  my $request = pack 'Z16 S x22', $name, 0x0002 | 0x1000; # IFF_TAP, IFF_NO_PI
  sysopen my $tap, '/dev/net/tun', 2 or die "/dev/net/tun: $!\\n";
  ioctl $tap, 0x400454ca, $request or die "tap $name: $!\\n"; # TUNSETIFF
  ioctl $tap, 0x400454cc, 0 or die "tap $name: $!\\n"; # TUNSETOWNER
  fileno $tap == $first + @taps or die "tap $name is descriptor " . fileno($tap) . "\\n";
  push @taps, $tap;
}
for my $device ('/dev/net/tun', glob '/dev/vhost-*') {
  system('mount', '--bind', '/dev/null', $device) == 0 or die "$device cannot be hidden\\n";
}
my $filter = pack 'H*', $instructions;
my $program = pack 'S x![P] P', length($filter) / 8, $filter; # struct sock_fprog
syscall($prctl + 0, 22, 2, $program) == 0 or die "no filter for system calls: $!\\n"; # PR_SET_SECCOMP
exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\\n";
`;

/**
 * Returns the command line that runs a program in a mount namespace of its own. The program's descriptors from `first`
 * on are the taps. Root must run the command, with all descriptors below `first` open.
 */
export const withTaps = (
  taps: readonly string[],
  program: readonly string[],
  first: number = firstTapDescriptor,
): string[] => {
  const { prctl, instructions } = tapFilter();
  const counts = [`${prctl}`, instructions.toString('hex'), `${first}`, `${taps.length}`];
  return [
    ...['unshare', '--mount', '--propagation', 'slave'],
    ...['perl', '-e', openTaps, ...counts, ...taps, ...program],
  ];
};
