/**
 * Actions that go on without the command. A user who ends a wait (Ctrl-C, SIGTERM) is told what has been asked for, how to look at it,
 * and how to take it back. Exit codes are those of shells: 128 and the number of the signal.
 */
import type { Endpoint } from '../contract/endpoint.ts';
import { inWords } from './names.ts';
import { tell } from './standard-output.ts';
import type { Waited } from './wait.ts';

/** Each tells what is to be said if the command ended now. */
const underWay = new Set<() => string>();

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

function onSignal(signal: NodeJS.Signals): void {
  tell(['', 'Interrupted.', ...[...underWay].map((describe) => describe())].join('\n'));
  process.exit(exitCodes[signal as keyof typeof exitCodes]);
}

/** Does the work; if it is interrupted, tells what `describe` says then. */
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

/** Describes the action that the answer confirms. */
export function outcomeOf({ method, resource, id: operation }: Endpoint, noun: string, answer: Waited): string {
  if (resource === undefined && answer.state !== undefined) {
    return [
      `The ${operation.replace(/^.*_/, '')} goes on without this command, as operation ${answer.id}.`,
      `  look at it:  ${commandOf('operation')} get ${answer.id}`,
    ].join('\n');
  }
  const kind = noun || (resource?.noun ?? '');
  const object = `${inWords(kind)} ${answer.name ?? ''} (${answer.id})`;
  const done = { DELETE: 'is being deleted', POST: 'has been created', PATCH: 'has been changed', GET: 'is there' }[
    method
  ];
  return [
    `${object} ${done}. That goes on without this command.`,
    `  look at it:  ${commandOf(kind)} get ${answer.id}`,
    ...(method === 'POST' ? [`  delete it:   ${commandOf(kind)} delete ${answer.id}`] : []),
  ].join('\n');
}

/** Describes a request whose answer has not come yet. */
export function unansweredOf(
  { summary, resource }: Endpoint,
  noun: string,
  target: string | undefined,
  name: unknown,
): string {
  const kind = noun || (resource?.noun ?? '');
  const look = noun && target ? `get ${target}` : typeof name === 'string' ? `list --name ${name}` : 'list';
  return [
    `The API has not answered yet. Whether this took effect is not known: ${summary}.`,
    ...(kind ? [`  look:  ${commandOf(kind)} ${look}`] : []),
  ].join('\n');
}
