import { type Static, Type } from '@sinclair/typebox';
import { type Endpoint, ListOf, listQuery, projectQuery } from '../endpoint.ts';
import { exampleId, IdOf, Reference, Timestamp } from '../fields.ts';

/** The schema of an audit record. */
export const AuditRecordItem = Type.Object(
  {
    id: IdOf('audit_record'),
    at: Timestamp({ description: 'Time of the change (RFC 3339, UTC).' }),
    token: Reference('token', { description: 'Token of the request.' }),
    project: Type.Optional(Reference('project', { description: 'Project of the object.' })),
    operation: Type.String({ description: 'Operation of the API, such as `vm_create`.' }),
    target: Type.String({ description: 'Id of the object.' }),
    request_id: Type.String({ description: 'Id of the request, as in the log.' }),
    source: Type.String({ description: 'Network address of the client.' }),
  },
  {
    additionalProperties: false,
    title: 'AuditRecord',
    description:
      'A change of an object and the token that made it, written in the transaction of the change. Audit records are kept for 90 days, and at most 50,000 per project. Above that number, records of the most frequent operation and token are removed, except their oldest and newest.',
  },
);
export type AuditRecord = Static<typeof AuditRecordItem>;

const example: AuditRecord = {
  id: exampleId('audit_record'),
  at: '2026-01-01T00:00:00.000Z',
  token: exampleId('token'),
  project: exampleId('project'),
  operation: 'vm_create',
  target: exampleId('vm'),
  request_id: 'req-1',
  source: '2001:db8::7',
};

/** The endpoints of audit records. */
export const auditRecordEndpoints = {
  list: {
    id: 'audit_record_list',
    method: 'GET',
    path: '/v1/audit-records',
    tag: 'audit-records',
    summary: 'List audit records',
    access: 'operator',
    query: Type.Object(
      {
        ...listQuery,
        ...projectQuery,
        target: Type.Optional(Type.String({ maxLength: 64, description: 'Only records of this object.' })),
      },
      { additionalProperties: false },
    ),
    success: {
      status: 200,
      description: 'A page of the list, oldest first.',
      schema: ListOf(AuditRecordItem, 'AuditRecordList'),
      example: { items: [example], revision: 42 },
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
