/** The public documents: the description of the API, the reference for browsers, and the health of the server. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { ApiContext } from '../requests/context.ts';
import { share } from './sending.ts';

const openApiPath = join(import.meta.dirname, '..', '..', '..', 'openapi.yaml');

/** The browser loads nothing from other servers and sends nothing to them. The reference sets styles at run time. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ucloud API</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"></head><body>
<noscript><p>This reference needs JavaScript. All that it shows is in <a href="openapi.yaml">openapi.yaml</a>
(OpenAPI 3.1), for people and for generators of clients.</p></noscript>
<div id="reference"></div>
<script src="docs/reference.js"></script>
<script src="docs/start.js"></script>
</body></html>
`;

/** All options that contact other servers are off: fonts, telemetry, a proxy, an assistant, links to a service. */
const start = `Scalar.createApiReference('#reference', ${JSON.stringify(
  {
    url: 'openapi.yaml',
    pageTitle: 'ucloud API',
    withDefaultFonts: false,
    telemetry: false,
    proxyUrl: '',
    hideClientButton: true,
    showDeveloperTools: 'never',
    persistAuth: false,
    agent: { disabled: true },
    mcp: { disabled: true },
    documentDownloadType: 'direct',
    defaultHttpClient: { targetKey: 'shell', clientKey: 'curl' },
  },
  undefined,
  2,
)});
`;

interface Script {
  readonly plain: Buffer;
  readonly compressed: Buffer;
}

/** Returns the script of the reference. It has several megabytes, so the first request loads it. */
async function loadScript(): Promise<Script> {
  const { default: reference } = await import('@scalar/fastify-api-reference');
  const holder = fastify();
  try {
    await holder.register(reference, { routePrefix: '/docs', configuration: { url: '/openapi.yaml' } });
    const { rawPayload } = await holder.inject('/docs/js/scalar.js');
    return { plain: share(rawPayload), compressed: share(await promisify(gzip)(rawPayload)) };
  } finally {
    await holder.close();
  }
}

const takesGzip = ({ headers }: FastifyRequest): boolean =>
  /(?:^|,)\s*gzip\s*(?:,|$|;\s*q=(?!0(?:\.0*)?\s*(?:,|$)))/i.test(String(headers['accept-encoding'] ?? ''));

/** Adds the routes of the public documents and /healthz. */
export function serveDocuments(app: FastifyInstance, api: ApiContext): void {
  const openApi = share(readFileSync(openApiPath));
  let script: Promise<Script> | undefined;
  const send = (reply: FastifyReply, type: string, text: string) =>
    reply.type(`${type}; charset=utf-8`).header('content-security-policy', policy).send(text);

  app.get('/openapi.yaml', (_request, reply) => reply.type('application/yaml; charset=utf-8').send(openApi));
  app.get('/docs', (_request, reply) => send(reply, 'text/html', page));
  app.get('/docs/start.js', (_request, reply) => send(reply, 'text/javascript', start));
  app.get('/docs/reference.js', async (request, reply) => {
    // A failure is not kept, so the next request tries again.
    script ??= loadScript().catch((error: Error) => {
      script = undefined;
      throw error;
    });
    const { plain, compressed } = await script;
    reply
      .type('text/javascript; charset=utf-8')
      .header('cache-control', 'public, max-age=3600')
      .header('vary', 'accept-encoding');
    return takesGzip(request) ? reply.header('content-encoding', 'gzip').send(compressed) : reply.send(plain);
  });
  app.get('/', (_request, reply) => reply.redirect('/docs'));
  // The check reads the database, so a load balancer removes a server that has lost it.
  app.get('/healthz', async (_request, reply) => {
    await api.mirror.refresh();
    return reply.send({ status: 'ok' });
  });
}
