/**
 * A disk that only UEFI boots: a file system with one program at the default path. The program writes a text to the console
 * and turns the machine off. Without the program's help, no firmware prints the text.
 */
import { writeFileSync } from 'node:fs';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../backend/host/system/command.ts';

const pageSize = 0x1000;
const headerSize = 0x200;

/** Machine code for x86-64: ConOut->OutputString(text), then ResetSystem(EfiResetShutdown) (UEFI 2.10, sections 12.4, 8.5). */
const code = (textAt: number): Buffer => {
  const begin = [
    ...[0x48, 0x83, 0xec, 0x28], // sub rsp, 0x28
    ...[0x48, 0x89, 0xd3], // mov rbx, rdx (the system table)
    ...[0x48, 0x8b, 0x4a, 0x40], // mov rcx, [rdx + ConOut]
    ...[0x48, 0x8d, 0x15], // lea rdx, [rip + …]
  ];
  const distance = Buffer.alloc(4);
  distance.writeInt32LE(textAt - (begin.length + 4));
  const end = [
    ...[0xff, 0x51, 0x08], // call [rcx + OutputString]
    ...[0x48, 0x8b, 0x43, 0x58], // mov rax, [rbx + RuntimeServices]
    ...[0xb9, 2, 0, 0, 0, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9], // ecx = EfiResetShutdown, no further data
    ...[0xff, 0x50, 0x68], // call [rax + ResetSystem]
    ...[0xf4, 0xeb, 0xfd], // hlt, again
  ];
  return Buffer.concat([Buffer.from(begin), distance, Buffer.from(end)]);
};

/** Returns an EFI application with one section (PE32+, Microsoft's PE format). */
function efiProgram(text: string): Buffer {
  const textAt = 0x100;
  const section = Buffer.alloc(headerSize);
  code(textAt).copy(section);
  section.write(`${text}\r\n\0`, textAt, 'utf16le');
  const header = Buffer.alloc(headerSize);
  header.write('MZ');
  header.writeUInt32LE(0x40, 0x3c);
  header.write('PE\0\0', 0x40);
  header.writeUInt16LE(0x8664, 0x44); // machine: x86-64
  header.writeUInt16LE(1, 0x46); // sections
  header.writeUInt16LE(0xf0, 0x54); // size of the optional header
  header.writeUInt16LE(0x22, 0x56); // executable, large addresses
  const optional = header.subarray(0x58);
  optional.writeUInt16LE(0x20b, 0); // PE32+
  optional.writeUInt32LE(section.length, 4);
  optional.writeUInt32LE(pageSize, 16); // entry point
  optional.writeUInt32LE(pageSize, 20); // base of the code
  optional.writeUInt32LE(pageSize, 32); // alignment of sections in memory
  optional.writeUInt32LE(headerSize, 36); // and in the file
  optional.writeUInt32LE(2 * pageSize, 56); // size of the image
  optional.writeUInt32LE(headerSize, 60); // size of the headers
  optional.writeUInt16LE(10, 68); // subsystem: EFI application
  optional.writeUInt32LE(16, 108); // directories, all empty
  const table = header.subarray(0x58 + 0xf0);
  table.write('.text');
  table.writeUInt32LE(section.length, 8);
  table.writeUInt32LE(pageSize, 12);
  table.writeUInt32LE(section.length, 16);
  table.writeUInt32LE(headerSize, 20);
  table.writeUInt32LE(0xe0000020, 36); // code that is read, written and executed
  return Buffer.concat([header, section]);
}

/**
 * Writes a qcow2 with the disk.
 * @param directory for temporary files
 * @param text at most 100 characters of ASCII
 */
export async function efiDisk(directory: string, output: string, text: string): Promise<void> {
  const [raw, program] = [join(directory, 'efi-disk.raw'), join(directory, 'BOOTX64.EFI')];
  writeFileSync(program, efiProgram(text));
  writeFileSync(raw, '');
  await truncate(raw, 64 * 1024 ** 2);
  await run('mkfs.vfat', [raw]);
  await run('mmd', ['-i', raw, '::EFI', '::EFI/BOOT']);
  await run('mcopy', ['-i', raw, program, '::EFI/BOOT/BOOTX64.EFI']);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, output]);
}
