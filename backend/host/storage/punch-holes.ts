/**
 * Frees the blocks of a file that are allocated and were never written. QEMU allocates them when it copies zeros of a disk.
 * The content stays the same, and nothing of it is read.
 *
 * A short Perl program does this, because Node has neither SEEK_HOLE nor fallocate. Every Debian has Perl (ADR 15).
 */
import type { Run } from '../system/command.ts';

/** The numbers of fallocate and fadvise64 (asm/unistd.h). */
const calls: Partial<Record<NodeJS.Architecture, readonly string[]>> = { x64: ['285', '221'], arm64: ['47', '223'] };

/** The arguments are: number of fallocate, number of fadvise64, path. The constants are those of lseek(2) and fallocate(2). */
const program = `
use strict;
use warnings;
my ($fallocate, $fadvise, $path) = @ARGV;
open my $file, '+<', $path or die "$path: $!\\n";
my $size = -s $file;
# POSIX_FADV_DONTNEED: blocks in the cache would count as data.
syscall($fadvise + 0, fileno $file, 0, 0, 4);
for (my $at = 0; $at < $size; ) {
  my $data = sysseek $file, $at, 3; # SEEK_DATA
  # ENXIO: no data follows. Any other error must not look like a hole.
  die "$path: $!\\n" unless defined $data or $!{ENXIO};
  $data = $size unless defined $data;
  if ($data > $at) {
    # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
    syscall($fallocate + 0, fileno $file, 3, $at + 0, $data - $at) == 0 or die "$path: $!\\n";
  }
  last if $data >= $size;
  $at = sysseek $file, $data, 4; # SEEK_HOLE
  die "$path: $!\\n" unless defined $at;
}
`;

/** Frees the blocks. All writes must have reached the disk. */
export async function punchHoles(run: Run, path: string): Promise<void> {
  await run('perl', ['-e', program, ...(calls[process.arch] ?? ['0', '0']), path]);
}
