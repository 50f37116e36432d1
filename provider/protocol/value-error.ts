/** A value that does not fit its type, or bytes that are no value. `path` leads from the outermost value to the wrong one. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
  readonly reason: string;
  readonly path: readonly (string | number)[];
  constructor(reason: string, path: readonly (string | number)[] = []) {
    super(path.length === 0 ? reason : `${path.join('.')}: ${reason}`);
    this.reason = reason;
    this.path = path;
  }
}
