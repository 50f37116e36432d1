/**
 * The records of the database, by key prefix. Each file has one writer: no other component writes its records. Desired and
 * observed state have different keys. Amounts are integers (bytes), times are RFC 3339 in UTC. The API makes the objects
 * of the contract from these records.
 *
 * Versions of ucloud work side by side on one database (docs/adr/0014). A new field must be optional, and versions that
 * do not know it must work without it. For any other change, raise `currentFormat`.
 */
export * from './address-space.ts';
export * from './api.ts';
export * from './billing.ts';
export * from './events.ts';
export * from './file-scanner.ts';
export * from './host-agent.ts';
export * from './image-scanner.ts';
export * from './mails.ts';
export * from './metadata-server.ts';
export * from './operations.ts';
export * from './routing.ts';
export * from './scheduler.ts';
export * from './security-groups.ts';
export * from './store-format.ts';
