/** What anybody may read: the API's description, a page of documentation, and whether the server is well. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Endpoint } from '../../contract/endpoint.ts';
import { errorTable } from '../../contract/errors.ts';
import type { ApiContext } from '../context.ts';

const openApiPath = join(import.meta.dirname, '..', '..', '..', 'openapi.yaml');

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const html = (text: string): string => text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
const code = (text: string): string => html(text).replace(/`([^`]+)`/g, '<code>$1</code>');

function page(endpoints: readonly Endpoint[]): string {
  const tags = [...new Set(endpoints.map(({ tag }) => tag))];
  const rows = (tag: string) =>
    endpoints
      .filter((endpoint) => endpoint.tag === tag)
      .map(
        ({ method, path, summary, access }) =>
          `<tr><td><code>${method}</code></td><td><code>${html(path)}</code></td><td>${html(summary)}</td><td>${access}</td></tr>`,
      )
      .join('\n');
  const errors = Object.entries(errorTable)
    .map(
      ([name, { status, meaning, user }]) =>
        `<tr><td><code>${name}</code></td><td>${status}</td><td>${code(meaning)}</td><td>${code(user)}</td></tr>`,
    )
    .join('\n');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ucloud API</title>
<meta name="viewport" content="width=device-width">
<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style></head><body>
<h1>ucloud API</h1>
<p>The whole description, for people and for generators of clients: <a href="/openapi.yaml">/openapi.yaml</a> (OpenAPI 3.1).</p>
<pre>curl -H "Authorization: Bearer $UCLOUD_TOKEN" http://[::1]:7780/v1/vms</pre>
${tags.map((tag) => `<h2 id="${tag}">${tag}</h2><table><tr><th></th><th>path</th><th></th><th>role</th></tr>${rows(tag)}</table>`).join('\n')}
<h2 id="errors">Errors</h2><table><tr><th>code</th><th>status</th><th>meaning</th><th>what to do</th></tr>${errors}</table>
</body></html>
`;
}

export function serveDocuments(app: FastifyInstance, api: ApiContext, endpoints: readonly Endpoint[]): void {
  const openApi = readFileSync(openApiPath, 'utf8');
  const docs = page(endpoints);
  const policy = "default-src 'none'; style-src 'unsafe-inline'";

  app.get('/openapi.yaml', (_request, reply) => reply.type('application/yaml; charset=utf-8').send(openApi));
  app.get('/docs', (_request, reply) =>
    reply.type('text/html; charset=utf-8').header('content-security-policy', policy).send(docs),
  );
  app.get('/', (_request, reply) => reply.redirect('/docs'));
  // Asks the database, so that a server which has lost it is taken out of rotation.
  app.get('/healthz', async (_request, reply) => {
    await api.mirror.refresh();
    return reply.send({ status: 'ok' });
  });
}
