/**
 * The cloud as a public registry of Terraform providers. The three protocols belong to Terraform, so they are not in
 * openapi.yaml (docs/adr/0009):
 *
 *     /.well-known/terraform.json                                       remote service discovery
 *     /terraform/providers/v1/:namespace/:type/…                        provider registry protocol
 *     /terraform/mirror/:host/:namespace/:type/{index,:version}.json    provider network mirror protocol
 *
 * https://developer.hashicorp.com/terraform/internals/remote-service-discovery, …/provider-registry-protocol and
 * …/provider-network-mirror-protocol. All links are relative, so they work under every name and behind every proxy.
 */
import { open } from 'node:fs/promises';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';
import { isVersion } from '../../model/terraform/provider-packages.ts';
import { sendHeadersOnly } from '../http/sending.ts';
import type { Provider, Release } from './catalogue.ts';
import type { ProviderDirectory } from './provider-directory.ts';

/** The host in the address of a package that was built for this cloud. The name belongs to nobody (RFC 6761). */
const placeholderHost = 'ucloud.localhost';

interface Address {
  readonly namespace: string;
  readonly type: string;
}
interface Package extends Address {
  readonly version: string;
  readonly os: string;
  readonly arch: string;
}
interface MirrorFile extends Address {
  readonly host: string;
  readonly file: string;
}

const nothing = (what: string) => new UcloudError('not_found', `this registry has no ${what}`);

async function sendFile(reply: FastifyReply, provider: Provider | undefined, name: string): Promise<FastifyReply> {
  const path = provider?.files.get(name);
  if (path === undefined) throw nothing('such file');
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    // The file was removed after it was listed.
    if (error.code === 'ENOENT') throw nothing('such file');
    throw error;
  });
  const status = await file.stat();
  if (!status.isFile()) {
    await file.close();
    throw nothing('such file');
  }
  reply
    .type(name.endsWith('.zip') ? 'application/zip' : 'application/octet-stream')
    .header('content-length', status.size);
  if (reply.request.method !== 'HEAD') return reply.send(file.createReadStream());
  await file.close();
  return sendHeadersOnly(reply);
}

const archivesOf = ({ archives }: Release) =>
  Object.fromEntries(
    archives.map(({ os, arch, file, hashes }) => [
      `${os}_${arch}`,
      { url: file, ...(hashes.length > 0 ? { hashes } : {}) },
    ]),
  );

/** Adds the routes of the provider registry. */
export function serveProviders(app: FastifyInstance, directory: ProviderDirectory): void {
  /** Returns a provider of this registry. */
  const own = async ({ namespace, type }: Address) => (await directory.current()).own.get(`${namespace}/${type}`);
  const signedReleases = (provider: Provider | undefined) =>
    [...(provider?.releases.values() ?? [])].flatMap(({ version, archives, signed }) =>
      signed ? [{ version, archives, ...signed }] : [],
    );

  app.get('/.well-known/terraform.json', (_request, reply) =>
    reply.send({ 'providers.v1': '/terraform/providers/v1/' }),
  );

  app.get<{ Params: Address }>('/terraform/providers/v1/:namespace/:type/versions', async ({ params }, reply) => {
    const releases = signedReleases(await own(params));
    if (releases.length === 0) throw nothing('such provider');
    return reply.send({
      versions: releases.map(({ version, protocols, archives }) => ({
        version,
        protocols,
        platforms: archives.map(({ os, arch }) => ({ os, arch })),
      })),
    });
  });

  app.get<{ Params: Package }>(
    '/terraform/providers/v1/:namespace/:type/:version/download/:os/:arch',
    async ({ params }, reply) => {
      const { namespace, type, version, os, arch } = params;
      const provider = await own(params);
      const release = signedReleases(provider).find((each) => each.version === version);
      const archive = release?.archives.find((each) => each.os === os && each.arch === arch);
      if (!provider || !release || !archive) throw nothing('such package');
      const files = `/terraform/files/${namespace}/${type}`;
      return reply.send({
        protocols: release.protocols,
        os,
        arch,
        filename: archive.file,
        download_url: `${files}/${archive.file}`,
        shasums_url: `${files}/${release.sums}`,
        shasums_signature_url: `${files}/${release.signature}`,
        shasum: archive.sha256,
        signing_keys: {
          gpg_public_keys: provider.keys.map(({ id, armor }) => ({ key_id: id, ascii_armor: armor })),
        },
      });
    },
  );

  app.get<{ Params: Address & { file: string } }>(
    '/terraform/files/:namespace/:type/:file',
    async ({ params }, reply) => sendFile(reply, await own(params), params.file),
  );

  app.get<{ Params: MirrorFile }>('/terraform/mirror/:host/:namespace/:type/:file', async (request, reply) => {
    const { host, namespace, type, file } = request.params;
    const { own, mirrored } = await directory.current();
    // A package of this registry has the name by which the client reaches the API.
    const ours = host === request.host.toLowerCase() || host === placeholderHost;
    const provider = ours ? own.get(`${namespace}/${type}`) : mirrored.get(`${host}/${namespace}/${type}`);
    if (!provider) throw nothing('such provider');
    if (file === 'index.json') {
      return reply.send({
        versions: Object.fromEntries([...provider.releases.keys()].map((version) => [version, {}])),
      });
    }
    const version = file.endsWith('.json') ? file.slice(0, -'.json'.length) : '';
    if (!isVersion(version)) return sendFile(reply, provider, file);
    const release = provider.releases.get(version);
    if (!release) throw nothing('such version');
    return reply.send({ archives: archivesOf(release) });
  });
}
