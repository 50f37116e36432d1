/** The sessions in the answer of bird to `show protocols all`. Pure. Texts of errors may come from a peer (RFC 8203). */
import { peerOfSession } from './bird-config.ts';

/** A session of bird with a peer. */
export interface Session {
  readonly peer: string;
  readonly state: 'established' | 'connecting' | 'down';
  /** The time of the last change of the state. */
  readonly since?: string;
  /** The last error. */
  readonly message?: string;
  /** The number of accepted routes. */
  readonly imported: number;
}

const maxMessageLength = 200;

/** The states of RFC 4271, 8.2.2, as bird names them. */
const states: Readonly<Record<string, Session['state']>> = {
  Established: 'established',
  Connect: 'connecting',
  Active: 'connecting',
  OpenSent: 'connecting',
  OpenConfirm: 'connecting',
  Idle: 'connecting',
  Passive: 'connecting',
};

/** Returns the text without control characters, and not too long. */
const harmless = (text: string): string =>
  text
    .replaceAll(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ')
    .trim()
    .slice(0, maxMessageLength);

const fieldOf = (lines: readonly string[], name: string): string | undefined => {
  const start = `${name}:`;
  const line = lines.find((each) => each.trimStart().startsWith(start));
  return line?.trimStart().slice(start.length).trim();
};

function sessionOf(peer: string, head: string, details: readonly string[]): Session {
  // Name, protocol, table, state, since (seconds), and further information.
  const seconds = Number(head.split(/\s+/)[4]);
  const state = states[fieldOf(details, 'BGP state') ?? ''] ?? 'down';
  const imported = Number(/^(\d+) imported/.exec(fieldOf(details, 'Routes') ?? '')?.[1] ?? 0);
  const error = fieldOf(details, 'Last error');
  return {
    peer,
    state,
    ...(Number.isSafeInteger(seconds) && seconds > 0 && { since: new Date(seconds * 1000).toISOString() }),
    ...(error !== undefined && state !== 'established' && { message: harmless(error) }),
    imported,
  };
}

/** Returns the sessions with peers. @param lines the answer, with times in seconds since 1970 */
export function parseSessions(lines: readonly string[]): Session[] {
  const sessions: Session[] = [];
  // The details of a protocol are indented.
  const heads = lines.flatMap((line, index) => (/^\S/.test(line) ? [index] : []));
  heads.forEach((start, i) => {
    const head = lines[start] ?? '';
    const peer = peerOfSession(head.split(/\s+/)[0] ?? '');
    if (peer !== undefined) sessions.push(sessionOf(peer, head, lines.slice(start + 1, heads[i + 1])));
  });
  return sessions;
}
