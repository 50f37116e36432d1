/** The first token and the first project of a new cloud. A component may request both at each start. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { idFrom, newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, conflict, put, read, readAll, retryOnConflict } from '../../store/collection.ts';
import type { Store } from '../../store/store.ts';
import { newSecret } from './secret.ts';

/** A new operator's token. */
export interface OperatorToken {
  readonly id: Id<'token'>;
  /** The bearer token. Only its hash is stored. */
  readonly secret: string;
}

/** Creates an operator's token. Returns undefined if the cloud has one already. */
export async function ensureOperatorToken(store: Store, name = 'first-operator'): Promise<OperatorToken | undefined> {
  return retryOnConflict(async () => {
    for await (const { value } of readAll(store, records.tokens)) if (value.role === 'operator') return undefined;
    return (await commitOperatorToken(store, name)) ?? conflict;
  });
}

/** Creates a further operator's token, for operators who have lost theirs. @throws UcloudError `name_taken` */
export async function makeOperatorToken(store: Store, name: string): Promise<OperatorToken> {
  const token = await commitOperatorToken(store, name);
  if (token) return token;
  throw new UcloudError('name_taken', `there is an operator's token with the name ${name} already`);
}

async function commitOperatorToken(store: Store, name: string): Promise<OperatorToken | undefined> {
  const id = newId('token');
  const secret = newSecret(id);
  const at = new Date().toISOString();
  const record: records.TokenRecord = {
    id,
    name,
    labels: {},
    role: 'operator',
    hash: secret.hash,
    created_at: at,
    updated_at: at,
  };
  const key = `_/token/${name}`;
  const result = await store.commit({
    require: [absent(records.names, key)],
    write: [put(records.tokens, id, record), put(records.names, key, { id })],
  });
  return result.ok ? { id, secret: secret.text } : undefined;
}

/** Returns the id of the project with this name. Creates the project if it does not exist. */
export async function ensureProject(store: Store, name: string): Promise<Id<'project'>> {
  const key = `_/project/${name}`;
  return retryOnConflict(async () => {
    const taken = await read(store, records.names, key);
    if (taken) return idFrom('project', taken.value.id);
    const settings = await read(store, records.settings, 'cloud');
    const quota = settings?.value.default_quota;
    const id = newId('project');
    const at = new Date().toISOString();
    const record: records.ProjectRecord = {
      id,
      name,
      description: '',
      labels: {},
      delete_protection: false,
      ...(quota ? { quota } : {}),
      created_at: at,
      updated_at: at,
    };
    const result = await store.commit({
      require: [absent(records.names, key)],
      write: [put(records.projects, id, record), put(records.names, key, { id })],
    });
    return result.ok ? id : conflict;
  });
}
