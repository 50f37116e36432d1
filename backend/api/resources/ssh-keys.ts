import { createHash } from 'node:crypto';
import { type SshKeyBody, type SshKeyUpdate, sshKey } from '../../contract/resources/ssh-keys.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { normalSshPublicKey, sshPublicKeyBlob } from '../../model/text/ssh-public-key.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, projectOfCreation, readPatch, removal, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';

/** The descriptor of SSH keys. */
export const sshKeys: ResourceDescriptor<records.SshKeyRecord> = describe(sshKey, {
  kind: records.sshKeys,
  scope: 'project',
  show: (_api, record) => record,
  quota: () => ({ ssh_keys: 1 }),
  handlers: { ssh_key_create: createSshKey, ssh_key_update: updateSshKey, ssh_key_delete: deleteSshKey },
});

/** Returns the stored form of the key, and its fingerprint in the form of OpenSSH. */
function readKey(text: string): { public_key: string; fingerprint: string } {
  const digest = createHash('sha256').update(sshPublicKeyBlob(text)).digest('base64');
  return { public_key: normalSshPublicKey(text), fingerprint: `SHA256:${digest.replace(/=+$/, '')}` };
}

async function createSshKey(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { name, public_key, labels, project: asked } = request.body as SshKeyBody;
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
    return creation(api, sshKeys, record);
  });
}

async function updateSshKey(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
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
}

async function deleteSshKey(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, sshKeys, (stored) => {
    return removal(api, request, sshKeys, stored);
  });
}
