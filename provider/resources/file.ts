/**
 * A file of a project, uploaded from a local file. The API has no operation that creates a file: the resource uploads the
 * content, and the file scanner records the file. Its other operations are derived.
 *
 * A plan reads the local file and contains its SHA-256. So an equal content is no change, whatever its path, and a file that
 * was changed outside of Terraform is uploaded again.
 */
import { basename } from 'node:path';
import type { Item } from '../client/item.ts';
import type { CreateContext, PlanContext, UpdateContext } from '../derive/contexts.ts';
import type { Field, ResourceSchema } from '../derive/fields.ts';
import { deriveResource } from '../derive/resource.ts';
import { duration, timedOut } from '../derive/wait-for-state.ts';
import { attribute, DiagnosticError, UNKNOWN } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import { brokenNameRule, bytesOfName, escapeName } from '../upload/file-name.gen.ts';
import { readSource } from '../upload/source.ts';
import { upload } from '../upload/upload.ts';

/** The fields that the provider can choose, although the API's schema has them only in answers. */
function fileSchema(): ResourceSchema {
  const { fields, ...schema } = schemaOf('file');
  const chosen = (name: string, description: string): Field => {
    const field = fields[name];
    if (!field) throw new Error(`files have no ${name}`);
    return { ...field, description, create: 'optional', immutable: true };
  };
  return {
    ...schema,
    description:
      'A file of a project, uploaded from a local file. Images can be made from it. A change of the content replaces the content of the file in place: the file keeps its id, and existing images do not change.',
    fields: {
      ...fields,
      project: chosen('project', 'Default: the project of the token.'),
      name: chosen(
        'name',
        'Name of the file in the project. Default: the last part of `source`. At most 255 bytes, without slash, control characters and a dot at its beginning; `%` is written as `%25`.',
      ),
    },
  };
}

const schema = fileSchema();
const called = (name: unknown): string => `File "${String(name)}"`;

/** Returns the violation of a configured name as a sentence. */
function nameProblem(name: string): string | undefined {
  const bytes = bytesOfName(name);
  const broken = brokenNameRule(bytes.toString());
  if (broken !== undefined) return `The name ${broken}.`;
  return escapeName(bytes) === name ? undefined : 'A `%` in the name must be written as `%25`.';
}

/** Plans the default name: the last part of the path. */
function planName({ config, planned, diagnostics }: PlanContext): void {
  if (config.name !== null) return;
  if (typeof config.source !== 'string') {
    Object.assign(planned, { name: UNKNOWN });
    return;
  }
  const name = basename(config.source);
  const broken = brokenNameRule(name);
  if (broken === undefined) Object.assign(planned, { name: escapeName(Buffer.from(name)) });
  else {
    const detail = `Without \`name\`, the file has the name ${JSON.stringify(name)}. A name ${broken}. Set \`name\`.`;
    diagnostics.error('The source gives no name for the file', detail, ['source']);
  }
}

async function modifyPlan(ctx: PlanContext): Promise<void> {
  const { config, planned, prior, signal } = ctx;
  if (typeof config.source !== 'string') {
    Object.assign(planned, { sha256: UNKNOWN, size: UNKNOWN, modified_at: UNKNOWN });
    planName(ctx);
    return;
  }
  const { sha256, size } = await readSource(config.source, signal);
  planName(ctx);
  Object.assign(planned, { sha256, size });
  if (prior === null || prior.sha256 !== sha256) Object.assign(planned, { modified_at: UNKNOWN });
  // The same content under another path is no change.
  else if (typeof prior.source === 'string') Object.assign(planned, { source: prior.source });
}

/** Uploads the planned content. `check` may refuse the upload before its first byte. */
async function uploadPlanned(
  ctx: CreateContext,
  check: (id: string, present: Item | undefined) => void,
): Promise<Item> {
  const { client, config, planned, signal } = ctx;
  const { project, name, sha256, size } = planned;
  let uploaded: string | undefined;
  try {
    return await upload(
      {
        project: String(project),
        name: bytesOfName(String(name)).toString(),
        source: String(config.source),
        sha256: String(sha256),
        size: Number(size),
      },
      {
        client,
        signal,
        check,
        uploaded(id) {
          uploaded = id;
        },
      },
    );
  } catch (error) {
    if (!timedOut(signal)) {
      // The file has no fault, and the next run finds it.
      if (signal.aborted && uploaded !== undefined) ctx.save({ id: uploaded });
      throw error;
    }
    const within = ctx.timeout === undefined ? '' : ` within ${duration(ctx.timeout)}`;
    throw new DiagnosticError(
      uploaded === undefined
        ? `${called(name)} was not uploaded${within}: the next apply resumes the upload`
        : `${called(name)} is uploaded, but its file scanner has not recorded it${within}: the next apply waits again`,
    );
  }
}

const createFile = (ctx: CreateContext): Promise<Item> =>
  uploadPlanned(ctx, (id, present) => {
    if (!present || present.sha256 === ctx.planned.sha256) return;
    throw new DiagnosticError(
      `${called(ctx.planned.name)} exists`,
      `The project has a file of this name with other content, ${id}. Import it to replace its content (an \`import\` block, or \`terraform import\`), delete it, or choose another \`name\`.`,
      ['name'],
    );
  });

async function updateFile(ctx: UpdateContext): Promise<Item | undefined> {
  const own = String(ctx.prior.id);
  if (!ctx.changed('sha256')) return ctx.client.read(schema.path, own, ctx.signal);
  return uploadPlanned(ctx, (id) => {
    if (id === own) return;
    throw new DiagnosticError(
      `${called(ctx.planned.name)} is on another file server`,
      `Its file server is ${String(ctx.prior.server)}, and the API puts uploads on another one. Replace the file (\`-replace\`).`,
    );
  });
}

export const file = deriveResource(schema, {
  attributes: {
    source: attribute.string({
      description:
        'Path of the local file. It must be a regular file that is not empty. Each plan reads it and compares its SHA-256. The same content under another path is no change, unless the default of `name` changes with the path.',
      required: true,
      validate: (value) => (value === '' ? 'Must be the path of a file.' : undefined),
    }),
  },
  override: { name: { validate: (value) => nameProblem(String(value)) } },
  timeouts: { create: '60m', update: '60m', delete: '10m' },
  modifyPlan,
  create: createFile,
  update: updateFile,
});
