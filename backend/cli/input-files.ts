/** Files and standard input as values of options. */
import { closeSync, openSync, readSync } from 'node:fs';
import { formats } from '../model/text/formats.ts';
import { describeSize } from '../model/text/sizes.ts';
import { parseJson } from './json.ts';
import { pause } from './standard-output.ts';
import { flagOf, type JsonSchema, solid } from './values.ts';

/** The maximum bytes of a file: a little more than the largest limit of the API, 32 MiB. */
const largest = 33 * 1024 * 1024;

let standardInputOf: string | undefined;

/**
 * Reads a file, or standard input for `-`. Only one option can read standard input. @throws Error that names the option
 */
export function readInput(file: string, option: string): string {
  if (file === '-') {
    if (standardInputOf !== undefined) throw new Error(`${option}: ${standardInputOf} has read standard input already`);
    standardInputOf = option;
  }
  const name = file === '-' ? 'standard input' : file;
  let bytes: Buffer;
  try {
    bytes = readBounded(file === '-' ? 0 : file, name);
  } catch (error) {
    throw new Error(`${option}: ${(error as Error).message}`, { cause: error });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new Error(`${option}: ${name} is not text in UTF-8`, { cause: error });
  }
}

function readSome(descriptor: number, chunk: Buffer): number {
  for (;;) {
    try {
      return readSync(descriptor, chunk);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      pause();
    }
  }
}

function readBounded(file: string | 0, name: string): Buffer {
  const descriptor = file === 0 ? 0 : openSync(file, 'r');
  const chunks: Buffer[] = [];
  try {
    for (let size = 0; ; ) {
      const chunk = Buffer.alloc(64 * 1024);
      const count = readSome(descriptor, chunk);
      if (count === 0) return Buffer.concat(chunks);
      size += count;
      if (size > largest) throw new Error(`${name} is larger than ${describeSize(largest)}`);
      chunks.push(chunk.subarray(0, count));
    }
  } finally {
    if (file !== 0) closeSync(descriptor);
  }
}

/** Tells whether the option takes a file: long text, and every value that may be JSON. */
export function takesFile(schema: JsonSchema): boolean {
  const { type, enum: values, maxLength = 0, items, 'x-reference': reference } = solid(schema);
  if (type === 'object') return true;
  // A text item could begin with @. Names and ids cannot.
  if (type === 'array') return items?.type === 'object' || items?.['x-reference'] !== undefined;
  return type === 'string' && !values && !reference && maxLength > 2048;
}

/** Returns the text of an option, or of its file for `@file` and `@-`. @throws Error that names the option */
export function textOf(schema: JsonSchema, field: string, text: string): string {
  if (!text.startsWith('@') || !takesFile(schema)) return text;
  const file = text.slice(1);
  const option = flagOf(field);
  if (file === '') throw new Error(`${option}: the name of a file must follow @`);
  const content = readInput(file, option);
  const { type, format, pattern, 'x-rule': rule } = solid(schema);
  if (type !== 'string') return content.trim();
  // The command does not send a value that breaks the rule, because it may be a secret such as a private key.
  const problem = format === undefined ? undefined : formats[format]?.(content);
  if (problem !== undefined) throw new Error(`${option}: ${file} ${problem}`);
  if (pattern === undefined) return content;
  // The line end of the file is not part of a one-line text.
  const line = content.replace(/[\r\n]+$/, '');
  if (!new RegExp(pattern, 'u').test(line))
    throw new Error(`${option}: ${file} must be ${rule ?? 'of the right form'}`);
  return line;
}

/** Reads the whole body of a request from a file. @throws Error that names the file */
export function readBody(file: string): Record<string, unknown> {
  const text = readInput(file, '--body');
  let body: unknown;
  try {
    body = parseJson(text);
  } catch (error) {
    throw new Error(`--body ${file}: ${(error as Error).message}`, { cause: error });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new Error(`--body ${file}: is not a JSON object`);
  }
  return body as Record<string, unknown>;
}
