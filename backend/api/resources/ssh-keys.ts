import { createHash } from 'node:crypto';
import { type SshKeyCreate, type SshKeyUpdate, sshKey } from '../../contract/resources/ssh-keys.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { normalSshPublicKey, sshPublicKeyBlob } from '../../model/text/ssh-public-key.ts';
import { put } from '../../store/collection.ts';
import type { Handlers } from '../requests/context.ts';
import { getHandler, listHandler } from '../requests/get-and-list.ts';
import { changeObject } from '../transaction/change-object.ts';
import { created, projectOfCreation, readPatch, removal, replacement, takeName } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { sshKeys } from './views.ts';

type Body = SshKeyCreate & Required<Pick<SshKeyCreate, 'labels'>>;

/** The key as it is kept, and its fingerprint as OpenSSH prints it. */
function readKey(text: string): { public_key: string; fingerprint: string } {
  const digest = createHash('sha256').update(sshPublicKeyBlob(text)).digest('base64');
  return { public_key: normalSshPublicKey(text), fingerprint: `SHA256:${digest.replace(/=+$/, '')}` };
}

export const sshKeyHandlers: Handlers = {
  ssh_key_list: listHandler(sshKeys),
  ssh_key_get: getHandler(sshKeys),

  async ssh_key_create(api, request) {
    const { name, public_key, labels, project: asked } = request.body as Body;
    const id = newId('ssh_key');
    const at = request.now.toISOString();
    const key = readKey(public_key);
    return mutate(api, request, () => {
      const project = projectOfCreation(api, request.caller, asked);
      const record: records.SshKeyRecord = {
        id,
        project,
        name,
        labels,
        ...key,
        created_at: at,
        updated_at: at,
      };
      const taken = takeName('ssh_key', project, name, id);
      return {
        guards: taken.guards,
        writes: [put(records.sshKeys, id, record), ...taken.writes],
        target: id,
        project,
        quotaDelta: { ssh_keys: 1 },
        reason: 'created',
        message: `Created ${name}.`,
        answer: created('ssh-keys', id, sshKeys.show(api, record)),
      };
    });
  },

  async ssh_key_update(api, request) {
    const patch = readPatch<SshKeyUpdate>(sshKey, request.body as SshKeyUpdate);
    return changeObject(api, request, sshKeys, (stored) => {
      const { public_key } = patch;
      const next = {
        ...stored.value,
        ...patch,
        ...(public_key !== undefined && readKey(public_key)),
        updated_at: request.now.toISOString(),
      };
      return replacement(api, request, sshKeys, stored, next);
    });
  },

  async ssh_key_delete(api, request) {
    return changeObject(api, request, sshKeys, (stored) => {
      return removal(api, request, sshKeys, stored);
    });
  },
};
