/**
 * A Linux program for x86_64 that sends raw Ethernet frames, as an ELF executable of some 250 bytes. Guests of the demo
 * image have no such program, and a machine that runs the tests may have no compiler.
 *
 * The program reads its standard input, which must be a file: a `struct sockaddr_ll` (packet(7)), and then each frame after
 * its length (two bytes, little endian). It exits with 1 if the kernel refuses a frame.
 */

const hex = (lines: string): Buffer => Buffer.from(lines.replaceAll(/;.*$/gm, '').replaceAll(/\s/g, ''), 'hex');

/** System calls of x86_64: read 0, socket 41, sendto 44, exit 60. Their results are in eax. */
const code = hex(`
  6a29 58          ; push 41; pop rax
  6a11 5f          ; push 17; pop rdi             AF_PACKET
  6a03 5e          ; push 3; pop rsi              SOCK_RAW
  31d2             ; xor edx, edx                 no protocol: the socket receives nothing
  0f05             ; syscall                      socket
  4189c4           ; mov r12d, eax
  4881ec00000200   ; sub rsp, 131072
  4889e5           ; mov rbp, rsp                 at rbp: address; at rbp + 24: length; at rbp + 32: frame
  31c0             ; xor eax, eax
  31ff             ; xor edi, edi
  4889ee           ; mov rsi, rbp
  6a14 5a          ; push 20; pop rdx
  0f05             ; syscall                      read the address
  31c0             ; next: xor eax, eax
  31ff             ; xor edi, edi
  488d7518         ; lea rsi, [rbp + 24]
  6a02 5a          ; push 2; pop rdx
  0f05             ; syscall                      read the length
  83f802           ; cmp eax, 2
  752f             ; jne end
  0fb75518         ; movzx edx, word [rbp + 24]
  31c0             ; xor eax, eax
  31ff             ; xor edi, edi
  488d7520         ; lea rsi, [rbp + 32]
  0f05             ; syscall                      read the frame
  89c2             ; mov edx, eax
  6a2c 58          ; push 44; pop rax
  4489e7           ; mov edi, r12d
  488d7520         ; lea rsi, [rbp + 32]
  4531d2           ; xor r10d, r10d
  4989e8           ; mov r8, rbp
  6a14 4159        ; push 20; pop r9
  0f05             ; syscall                      sendto
  85c0             ; test eax, eax
  79c4             ; jns next
  6a01 5f          ; push 1; pop rdi
  eb02             ; jmp exit
  31ff             ; end: xor edi, edi
  6a3c 58          ; exit: push 60; pop rax
  0f05             ; syscall                      exit
`);

const loadAddress = 0x400000n;
const headerSize = 64 + 56;

/** The program. ELF specification, chapters 1 and 2: a file header, one program header, and the code behind them. */
export function frameSender(): Buffer {
  const elf = Buffer.alloc(headerSize);
  elf.write('\x7fELF\x02\x01\x01', 'latin1');
  elf.writeUInt16LE(2, 16); // executable
  elf.writeUInt16LE(62, 18); // x86_64
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(loadAddress + BigInt(headerSize), 24); // entry
  elf.writeBigUInt64LE(64n, 32); // program headers
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64); // a segment that is loaded
  elf.writeUInt32LE(5, 68); // readable, executable
  elf.writeBigUInt64LE(loadAddress, 80);
  elf.writeBigUInt64LE(loadAddress, 88);
  const size = BigInt(headerSize + code.length);
  elf.writeBigUInt64LE(size, 96);
  elf.writeBigUInt64LE(size, 104);
  elf.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([elf, code]);
}

/** Returns the input of the program. `interfaceIndex` is the index of the interface that sends the frames. */
export function senderInput(interfaceIndex: number, frames: readonly Buffer[]): Buffer {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(17, 0);
  address.writeInt32LE(interfaceIndex, 4);
  const lengths = frames.map(({ length }) => Buffer.from([length & 255, length >> 8]));
  return Buffer.concat([address, ...frames.flatMap((frame, index) => [lengths[index] ?? Buffer.alloc(0), frame])]);
}
