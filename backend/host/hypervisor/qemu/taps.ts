/**
 * How a program gets its taps: open, and with no way to open them again. Pure.
 *
 * A tap that is opened with IFF_VNET_HDR takes instructions with each frame (virtio 1.2, 5.1.6): the kernel is to write
 * a checksum at a place of the sender's choice. It does so when the frame leaves for a receiver that takes no unfinished
 * checksums, after all filters have seen it. So a guest could change two bytes of its choice: an echo request becomes a
 * router advertisement, a source address another one. Taps are therefore opened without it, and QEMU offers guests none.
 *
 * The flag is chosen by the process that opens the tap, and one that has it open may make itself its owner. So taps are
 * root's, and are opened before the privileges are dropped; the program gets a view of /dev in which `tun` and the
 * devices of vhost, which feed instructions to a tap by another way, are /dev/null.
 *
 * Node has no ioctl; Perl is on every Debian (perl-base is essential).
 */

/** The taps follow the descriptors of `Launch`. */
export const firstTapDescriptor = 7;

/** Arguments: first descriptor, number of taps, taps, program. Constants are those of linux/if_tun.h. */
const attach = `
use strict;
use warnings;
$^F = 1024; # All of them stay open for the program.
my ($first, $count) = splice @ARGV, 0, 2;
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
exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\\n";
`;

/**
 * Runs a program with the taps as its descriptors from `first` on, in a mount namespace of its own. To be run by root, with
 * all descriptors below `first` open.
 */
export const withTaps = (
  taps: readonly string[],
  program: readonly string[],
  first: number = firstTapDescriptor,
): string[] => [
  ...['unshare', '--mount', '--propagation', 'slave'],
  ...['perl', '-e', attach, `${first}`, `${taps.length}`, ...taps, ...program],
];
