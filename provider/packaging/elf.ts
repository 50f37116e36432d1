/**
 * Adds data to a 64-bit ELF executable as a note, which the program finds in its own memory by its program headers (ELF
 * specification, chapter 2: note section).
 *
 * The note follows the last loaded segment, together with a copy of the existing notes. The header of an existing note
 * segment then points there. So there is no new header, and no address in the program changes. The result does not contain
 * the content after the last loaded segment: symbols, debugging information and section headers. A running program does not
 * need them.
 */

const LOAD = 1;
const NOTE = 4;
/** The alignment of notes in bytes. The notes of GNU properties have another one, and their own segment. */
const NOTE_ALIGNMENT = 4;
const PAGE = 4096;

interface Segment {
  /** The offset of its header in the file, in bytes. */
  readonly header: number;
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly sizeInFile: number;
  readonly sizeInMemory: number;
  readonly alignment: number;
}

const up = (value: number, alignment: number): number => Math.ceil(value / alignment) * alignment;

function segmentsOf(executable: Buffer): Segment[] {
  const elf64LittleEndian = Buffer.from('\x7fELF\x02\x01', 'latin1');
  if (!executable.subarray(0, elf64LittleEndian.length).equals(elf64LittleEndian)) {
    throw new Error('the file is not a 64-bit little-endian ELF executable');
  }
  const first = Number(executable.readBigUInt64LE(32));
  const size = executable.readUInt16LE(54);
  return Array.from({ length: executable.readUInt16LE(56) }, (_, i): Segment => {
    const header = first + i * size;
    const at = (offset: number) => Number(executable.readBigUInt64LE(header + offset));
    return {
      header,
      type: executable.readUInt32LE(header),
      offset: at(8),
      address: at(16),
      sizeInFile: at(32),
      sizeInMemory: at(40),
      alignment: at(48),
    };
  });
}

/** Returns a note: the lengths of name and content, the type 0, and name and content with padding. */
function noteOf(name: string, content: Uint8Array): Buffer {
  const nameSize = name.length + 1;
  const start = 12 + up(nameSize, NOTE_ALIGNMENT);
  const note = Buffer.alloc(start + up(content.length, NOTE_ALIGNMENT));
  note.writeUInt32LE(nameSize, 0);
  note.writeUInt32LE(content.length, 4);
  note.write(name, 12, 'latin1');
  note.set(content, start);
  return note;
}

/**
 * Returns a copy of the executable with the content in a note.
 * @param name the name of the note, in ASCII
 * @throws Error if the file is no ELF executable, or has an unknown layout
 */
export function withNote(executable: Buffer, name: string, content: Uint8Array): Buffer {
  const segments = segmentsOf(executable);
  const last = segments.filter(({ type }) => type === LOAD).at(-1);
  const notes = segments.find(({ type, alignment }) => type === NOTE && alignment === NOTE_ALIGNMENT);
  if (!last || !notes) throw new Error('the ELF executable has no loaded segments, or no notes');
  const end = last.offset + last.sizeInFile;
  if (segments.some(({ offset, sizeInFile }) => offset + sizeInFile > end)) {
    throw new Error('the last segment of the ELF executable in memory is not the last in the file');
  }
  // The file does not contain zero-initialized memory. The result must contain it, because the note follows it.
  const start = up(last.address + last.sizeInMemory, PAGE) - last.address;
  const block = Buffer.concat([
    executable.subarray(notes.offset, notes.offset + up(notes.sizeInFile, NOTE_ALIGNMENT)),
    noteOf(name, content),
  ]);
  const result = Buffer.concat([executable.subarray(0, end), Buffer.alloc(start - last.sizeInFile), block]);

  const set = ({ header }: Segment, offset: number, value: number) =>
    result.writeBigUInt64LE(BigInt(value), header + offset);
  set(last, 32, start + block.length);
  set(last, 40, start + block.length);
  set(notes, 8, last.offset + start);
  set(notes, 16, last.address + start);
  set(notes, 24, last.address + start);
  set(notes, 32, block.length);
  set(notes, 40, block.length);
  // There are no section headers: this clears their offset, their number, and the index of their names.
  result.writeBigUInt64LE(0n, 40);
  result.writeUInt32LE(0, 60);
  return result;
}
