/** The tables of messages agree with the published protocol, without a Terraform to notice a slip. */
import t, { type Test } from 'tap';
import { RPCS, SchemaObject } from '../../provider/protocol/messages.ts';
import type { Fields, MessageType } from '../../provider/protocol/wire.ts';
import { type FieldFact, protocolCalls, protocolFacts, unusedFields } from '../support/plugin-protocol-facts.ts';

const scalars: Readonly<Record<string, string>> = {
  string: 'string',
  bytes: 'bytes',
  bool: 'bool',
  int64: 'int',
  enum: 'int',
};

/** Compares a message, and each message that it contains, with the facts of that name. */
function compare(t: Test, name: string, { fields }: MessageType<Fields>, seen: Set<string>): void {
  if (seen.has(name)) return;
  seen.add(name);
  const facts = protocolFacts.get(name);
  if (!facts) {
    t.fail(`the protocol has no message ${name}`);
    return;
  }
  const missing = [...facts.keys()].filter((field) => !(field in fields) && !unusedFields.has(`${name}.${field}`));
  t.same(missing, [], `${name} has all fields`);
  for (const [field, { number, kind, cardinality }] of Object.entries(fields)) {
    const fact: FieldFact | undefined = facts.get(field);
    const place = `${name}.${field}`;
    t.same({ number, cardinality }, fact && { number: fact.number, cardinality: fact.cardinality }, place);
    const type: string = fact?.type ?? '';
    if (place === 'Schema.Attribute.nested_type') {
      t.equal(kind, 'bytes', `${place} is encoded apart`);
      compare(t, type, SchemaObject, seen);
    } else if (typeof kind === 'string') t.equal(kind, scalars[type], `${place} is ${type}`);
    else compare(t, type, kind, seen);
  }
}

t.test('every message has the fields, numbers and types of the published protocol', async (t) => {
  t.same(Object.keys(RPCS).sort(), [...protocolCalls].sort(), 'the calls of the service');
  const seen = new Set<string>();
  for (const [call, { request, response }] of Object.entries(RPCS)) {
    compare(t, `${call}.Request`, request, seen);
    compare(t, `${call}.Response`, response, seen);
  }
  t.same(
    [...protocolFacts.keys()].filter((name) => !seen.has(name)),
    [],
    'every message of the protocol was compared',
  );
});
