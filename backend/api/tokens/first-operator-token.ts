/** What a new cloud needs before anybody can use it: the first token, a first project. Both may be asked for each start. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { idFrom, newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, conflict, put, read, readAll, retryOnConflict } from '../../store/collection.ts';
import type { Store } from '../../store/store.ts';
import { newSecret } from './secret.ts';

export interface OperatorToken {
  readonly id: Id<'token'>;
  /** Nowhere else: only its hash is stored. */
  readonly secret: string;
}

/** Makes an operator's token if there is none; undefined when there was one already. */
export async function ensureOperatorToken(store: Store, name = 'first-operator'): Promise<OperatorToken | undefined> {
  return retryOnConflict(async () => {
    for await (const { value } of readAll(store, records.tokens)) if (value.role === 'operator') return undefined;
    return (await commitOperatorToken(store, name)) ?? conflict;
  });
}

/** Makes an operator's token beside those there are, for operators who have lost theirs. */
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

/** The id of the project of this name, which is made if it is not there. */
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
