/**
 * Actions that continue without the command. When the user interrupts a wait (Ctrl-C, SIGTERM), the command prints the
 * request, how to follow it, and how to undo it. The exit code is that of shells: 128 plus the number of the signal.
 */
import type { Endpoint } from '../contract/endpoint.ts';
import { inWords } from './names.ts';
import { tell } from './standard-output.ts';
import type { Waited } from './wait.ts';

/** The functions that describe the open actions. */
const underWay = new Set<() => string>();

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

function onSignal(signal: NodeJS.Signals): void {
  tell(['', 'Interrupted.', ...[...underWay].map((describe) => describe())].join('\n'));
  process.exit(exitCodes[signal as keyof typeof exitCodes]);
}

/** Runs the work. An interruption prints the description. */
export async function goingOn<T>(describe: () => string, work: () => Promise<T>): Promise<T> {
  if (underWay.size === 0) for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal);
  underWay.add(describe);
  try {
    return await work();
  } finally {
    underWay.delete(describe);
    if (underWay.size === 0) for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal);
  }
}

const commandOf = (noun: string): string => `ucloud ${noun.replaceAll('_', '-')}`;

/** Describes an action that the API has confirmed. */
export function outcomeOf({ method, resource, id: operation }: Endpoint, noun: string, answer: Waited): string {
  if (resource === undefined && answer.state !== undefined) {
    return [
      `The ${operation.replace(/^.*_/, '')} continues without this command, as operation ${answer.id}.`,
      `  look at it:  ${commandOf('operation')} get ${answer.id}`,
    ].join('\n');
  }
  const kind = noun || (resource?.noun ?? '');
  const object = `${inWords(kind)} ${answer.name ?? ''} (${answer.id})`;
  const done = {
    DELETE: 'is being deleted',
    POST: 'has been created',
    PATCH: 'has been changed',
    GET: 'is there',
    HEAD: 'is there',
  }[method];
  return [
    `${object} ${done}. The action continues without this command.`,
    `  look at it:  ${commandOf(kind)} get ${answer.id}`,
    ...(method === 'POST' ? [`  delete it:   ${commandOf(kind)} delete ${answer.id}`] : []),
  ].join('\n');
}

/** Describes a request without a response. */
export function unansweredOf(
  { summary, resource }: Endpoint,
  noun: string,
  target: string | undefined,
  name: unknown,
): string {
  const kind = noun || (resource?.noun ?? '');
  const look = noun && target ? `get ${target}` : typeof name === 'string' ? `list --name ${name}` : 'list';
  return [
    `The API has not answered, so the result of this request is unknown: ${summary}.`,
    ...(kind ? [`  look:  ${commandOf(kind)} ${look}`] : []),
  ].join('\n');
}
