/**
 * The header and the embedded descriptor of a sparse VMDK file (VMware Virtual Disk Format 5.0; block/vmdk.c of QEMU),
 * read as hostile input. A descriptor can name other files as extents or as the parent, and QEMU would open them. Only a
 * single file with the whole disk is accepted: `monolithicSparse` or `streamOptimized`.
 */
import { bytesOf, type DiskSizeResult, diskSize, type ImageBytes, refuse } from './image-bytes.ts';

const sector = 512;
const magic = 0x4b444d56;
/** QEMU reads the name of the parent here, even if the descriptor of the header lies elsewhere. */
const usualDescriptor = { at: sector, length: 20 * sector } as const;
const maxDescriptorBytes = 64 * 1024;
/** In the first header, this directory of grain tables means that the header at the end of the file counts. */
const directoryAtEnd = 0xffff_ffff_ffff_ffffn;
const maxGrainSectors = 2 ** 15;
/** A grain table has as many entries. */
const tableEntries = 512;
/** The maximum number of grain tables that QEMU reads. */
const maxTables = 2 ** 25;

const severalFiles =
  'It refers to other files. Make one file of it first: qemu-img convert -O qcow2 old.vmdk new.qcow2';
const outside = 'Its tables lie outside of the file: it is damaged or cut off.';

/** Returns the text up to the first zero byte. */
const textOf = (view: DataView): string => bytesOf(view).toString('latin1').split('\0', 1)[0] ?? '';

/** Returns the problem of a descriptor, if there is one. */
function descriptorProblem(descriptor: string): string | undefined {
  const fields = new Map<string, string>();
  const extents: string[] = [];
  for (const line of descriptor.split(/[\r\n]+/)) {
    const [key = '', ...value] = line.split('=');
    fields.set(key.trim().toLowerCase(), value.join('=').trim().replaceAll('"', ''));
    const [access = '', , kind = ''] = line.trim().split(/\s+/);
    if (['RW', 'RDONLY', 'NOACCESS'].includes(access.toUpperCase())) extents.push(kind);
  }
  const createType = fields.get('createtype') ?? '';
  if (createType !== 'monolithicSparse' && createType !== 'streamOptimized')
    return `It has the type "${createType.slice(0, 40)}"; monolithicSparse and streamOptimized are accepted.`;
  if (!/^f{8}$/i.test(fields.get('parentcid') ?? '')) return severalFiles;
  return extents.length === 1 && extents[0] === 'SPARSE' ? undefined : severalFiles;
}

/** Reads header and descriptor. Returns the size of the disk. */
export async function readVmdk(file: ImageBytes): Promise<DiskSizeResult> {
  const first = await file.read(0, sector);
  const number = (header: DataView, at: number): bigint => header.getBigUint64(at, true);
  // QEMU takes a header without capacity as that of a descriptor, whose extents may be any files.
  if (number(first, 12) === 0n) return refuse('The disk that it describes is empty.');

  const descriptorAt = number(first, 28) * BigInt(sector);
  const descriptorBytes = number(first, 36) * BigInt(sector);
  if (descriptorAt === 0n) return refuse('It is one of several files of a disk. Make one file of them first.');
  if (descriptorBytes > BigInt(maxDescriptorBytes) || descriptorAt + descriptorBytes > BigInt(file.size))
    return refuse('Its descriptor has an impossible place or size.');
  const descriptor = textOf(await file.read(Number(descriptorAt), Number(descriptorBytes)));
  const usual = bytesOf(await file.read(usualDescriptor.at, usualDescriptor.length)).toString('latin1');
  if (/parentFileNameHint/i.test(descriptor) || /parentFileNameHint/i.test(usual)) return refuse(severalFiles);
  const problem = descriptorProblem(descriptor);
  if (problem !== undefined) return refuse(problem);

  if (number(first, 56) !== directoryAtEnd) return readHeader(first, file.size);
  if (file.size % sector !== 0 || file.size < 4 * sector) return refuse(outside);
  const last = await file.read(file.size - 2 * sector, sector);
  if (last.getUint32(0) !== magic) return refuse('It has no header at its end: it is damaged or cut off.');
  return readHeader(last, file.size);
}

/** Reads the header that counts. */
function readHeader(header: DataView, fileSize: number): DiskSizeResult {
  const version = header.getUint32(4, true);
  if (version < 1 || version > 3) return refuse(`It is VMDK version ${version}; versions 1 to 3 are accepted.`);
  if (header.getUint16(77, true) > 1) return refuse('It is compressed with a method that is not known here.');
  const grain = header.getBigUint64(20, true);
  if (grain === 0n || grain > BigInt(maxGrainSectors) || (grain & (grain - 1n)) !== 0n)
    return refuse('The size of its grains is not valid.');
  if (header.getUint32(44, true) !== tableEntries) return refuse('The size of its grain tables is not valid.');
  const capacity = header.getBigUint64(12, true);
  const size = diskSize(capacity * BigInt(sector));
  if (!size.ok) return size;
  const perTable = grain * BigInt(tableEntries);
  const tables = (capacity + perTable - 1n) / perTable;
  const directoryAt = header.getBigUint64(56, true) * BigInt(sector);
  if (tables > BigInt(maxTables) || directoryAt === 0n || directoryAt + tables * 4n > BigInt(fileSize))
    return refuse(outside);
  return size;
}
