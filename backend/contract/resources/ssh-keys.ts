import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, exampleId, IdOf, Labels, Name, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The resource of SSH keys. */
export const sshKey = resource({
  noun: 'ssh_key',
  plural: 'ssh-keys',
  description: 'A public SSH key that gives access to VMs.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
  },
  mutable: {
    name: Name(),
    public_key: Type.String({
      format: 'ssh-public-key',
      maxLength: 16384,
      'x-rule': 'one line in the format of OpenSSH: type, base64, comment',
      description:
        'One line in the format of OpenSSH: type, base64, comment. OpenSSH must accept the key. White space around it is ignored. VMs get a changed key in the same way as a change of their `ssh_keys`; none is replaced.',
    }),
    labels: Labels,
  },
  readonly: {
    id: IdOf('ssh_key'),
    fingerprint: Type.String({ description: 'SHA-256 fingerprint in the form of `ssh-keygen -l`.' }),
    ...common,
  },
  defaulted: ['labels'],
  optional: ['project'],
});
export type SshKey = ItemType<typeof sshKey>;
export type SshKeyCreate = CreateType<typeof sshKey>;
export type SshKeyBody = BodyType<typeof sshKey>;
export type SshKeyUpdate = UpdateType<typeof sshKey>;

const public_key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T alice@example';
const example: SshKey = {
  id: exampleId('ssh_key'),
  project: exampleId('project'),
  name: 'alice',
  public_key,
  labels: {},
  fingerprint: 'SHA256:L5qSUpcLxEQjYPyUUHXPSG1mW3b0ZpQe8i1Zk9hKQ2s',
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 9,
};

/** The endpoints of SSH keys. */
export const sshKeyEndpoints = crud(sshKey, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  example: { create: { name: 'alice', public_key }, item: example, update: { labels: { team: 'web' } } },
});
