/**
 * Puts data into an ELF executable for 64 bit as a note that the program finds in its own memory, by its program headers
 * (ELF specification, chapter 2: note section).
 *
 * The note goes behind the last segment that is loaded, and the header of an existing note segment then points there,
 * to a copy of the notes that were there and the new one. So no header is added, nothing moves, and no address in the
 * program changes. The copy leaves out everything behind the last loaded segment: symbols, debugging information and
 * section headers, which a running program does not need.
 */

const LOAD = 1;
const NOTE = 4;
/** Notes are aligned to this, except for those of GNU properties, which are in a segment of their own. */
const NOTE_ALIGNMENT = 4;
const PAGE = 4096;

interface Segment {
  /** Where its header is in the file. */
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
    throw new Error('not an ELF executable for 64 bit, little-endian');
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

/** A note: lengths of name and content, a type of 0, name and content, both padded. */
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
 * A copy of the executable that holds the content under a name, ASCII.
 * @throws Error if it is no ELF executable, or laid out in a way that this does not know
 */
export function withNote(executable: Buffer, name: string, content: Uint8Array): Buffer {
  const segments = segmentsOf(executable);
  const last = segments.filter(({ type }) => type === LOAD).at(-1);
  const notes = segments.find(({ type, alignment }) => type === NOTE && alignment === NOTE_ALIGNMENT);
  if (!last || !notes) throw new Error('an ELF executable without segments to load, or without notes');
  const end = last.offset + last.sizeInFile;
  if (segments.some(({ offset, sizeInFile }) => offset + sizeInFile > end)) {
    throw new Error('an ELF executable whose last segment in memory is not the last in the file');
  }
  // Memory that starts as zeros is not in the file. It has to be now, as what comes after it is.
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
  // No section headers: where they are, how many, which of them has the names.
  result.writeBigUInt64LE(0n, 40);
  result.writeUInt32LE(0, 60);
  return result;
}
