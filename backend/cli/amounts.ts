/** Returns the bytes in the largest unit that gives a short number. Hosts report bytes. */
export const inUnits = (bytes: number): string => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, bytes > 0 ? Math.floor(Math.log2(bytes) / 10) : 0);
  return `${Math.round((bytes / 1024 ** power) * 10) / 10}${units[power]}`;
};
