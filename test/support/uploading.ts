/** Uploads by hand-written requests of tus 1.0. */
import { Buffer } from 'node:buffer';
import { sha256Of } from './file-server.ts';

export interface TusAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: { readonly code?: string; readonly detail?: string; readonly errors?: readonly object[] };
}

export const metadataOf = (values: Readonly<Record<string, string>>): string =>
  Object.entries(values)
    .map(([key, value]) => `${key} ${Buffer.from(value).toString('base64')}`)
    .join(',');

/** A client of uploads. */
export class Uploader {
  readonly #url: string;
  readonly #token: string | undefined;

  constructor({ url, token }: { readonly url: string; readonly token: string | undefined }) {
    this.#url = url;
    this.#token = token;
  }

  async send(method: string, path: string, headers: Record<string, string> = {}, body?: unknown): Promise<TusAnswer> {
    const answer = await fetch(this.#url + path, {
      method,
      headers: { authorization: `Bearer ${this.#token}`, 'tus-resumable': '1.0.0', ...headers },
      ...(body === undefined ? {} : { body: body as NonNullable<RequestInit['body']>, duplex: 'half' }),
    });
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, body: text.startsWith('{') ? JSON.parse(text) : {} };
  }

  create(name: string, length: number, sha256: string, more: Record<string, string> = {}): Promise<TusAnswer> {
    return this.send('POST', '/v1/uploads', {
      'upload-length': String(length),
      'upload-metadata': metadataOf({ name, sha256, ...more }),
    });
  }

  /** Begins an upload and returns its path. */
  async begin(name: string, content: Uint8Array | string, more?: Record<string, string>): Promise<string> {
    const answer = await this.create(name, Buffer.byteLength(content), sha256Of(content), more);
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.headers.get('location') ?? '';
  }

  write(path: string, offset: number, body: unknown, headers: Record<string, string> = {}): Promise<TusAnswer> {
    const type = { 'content-type': 'application/offset+octet-stream' };
    return this.send('PATCH', path, { ...type, 'upload-offset': String(offset), ...headers }, body);
  }

  async offset(path: string): Promise<number> {
    const { status, headers } = await this.send('HEAD', path);
    if (status !== 200) throw new Error(`HEAD ${path}: ${status}`);
    return Number(headers.get('upload-offset'));
  }
}
