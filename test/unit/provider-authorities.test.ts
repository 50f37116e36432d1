/** The trusted CAs do not depend on the options of Node. The provider reads them only when it connects. */
import { execFile, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { rootCertificates } from 'node:tls';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { buildExecutable, executableName } from '../../provider/build.ts';
import { canMakeExecutable } from '../../provider/packaging/executable.ts';
import { createCertificate } from '../../provider/protocol/certificate.ts';
import { frame } from '../../provider/protocol/grpc.ts';
import { COOKIE_NAME, COOKIE_VALUE } from '../../provider/protocol/plugin.ts';
import { makeCertificates } from '../support/etcd.ts';
import { PluginClient } from '../support/plugin-client.ts';
import { temporaryDirectory } from '../support/stores.ts';

const run = promisify(execFile);
/** The options of Node in the executable and in the launcher. */
const starts = [['--use-openssl-ca'], []];

interface Printed {
  /** The answer of the API, or the name of the error. */
  readonly said: readonly string[];
  /** The trusted CAs, in PEM. */
  readonly known: readonly string[];
}

/** Returns the output of a module in a process of its own. */
async function printed(program: string, options: readonly string[], env: NodeJS.ProcessEnv): Promise<Printed> {
  const args = [...options, '--no-warnings', '--input-type=module', '-e', program];
  const { stdout } = await run(process.execPath, args, { env, maxBuffer: 64 * 1024 * 1024 });
  return JSON.parse(stdout) as Printed;
}

const moduleAt = (path: string): string => JSON.stringify(pathToFileURL(path).href);

async function startSecure(t: Test, directory: string): Promise<{ server: Server; port: number }> {
  const read = (name: string) => readFileSync(join(directory, name));
  const server = createServer({ key: read('server-key.pem'), cert: read('server.pem') }, (request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ items: [], revision: 1, asked: request.url }));
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port };
}

t.test(
  'an endpoint and a proxy may be vouched for by a well-known authority, an extra one, or the machine’s',
  async (t) => {
    const directory = temporaryDirectory(t);
    const certified = async (name: string) => {
      mkdirSync(join(directory, name));
      await makeCertificates(join(directory, name), name);
      return {
        ...(await startSecure(t, join(directory, name))),
        ca: readFileSync(join(directory, name, 'ca.pem'), 'utf8'),
      };
    };
    const endpoint = await certified('DNS:cloud.test');
    const proxy = await certified('IP:::1');
    const bundle = join(directory, 'ca.pem');
    writeFileSync(bundle, endpoint.ca + proxy.ca);
    proxy.server.on('connect', (_request, socket: net.Socket) => {
      socket.on('error', () => {});
      const onward = net.connect(endpoint.port, '::1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
      onward.on('error', () => socket.destroy());
      onward.pipe(socket).pipe(onward);
      t.teardown(() => onward.destroy());
    });
    const nobody = { PATH: process.env.PATH, SSL_CERT_FILE: '/nowhere', SSL_CERT_DIR: '/nowhere' };
    const extra = { ...nobody, NODE_EXTRA_CA_CERTS: bundle };
    const machine = { ...nobody, SSL_CERT_FILE: bundle };

    const program = `
    import { defaultAuthorities } from ${moduleAt('provider/client/authorities.ts')};
    import { Client } from ${moduleAt('provider/client/client.ts')};
    const list = async (endpoint, proxy) => {
      const client = new Client({ endpoint, token: 'x', maxRetries: 0, ...(proxy && { proxy: { url: new URL(proxy), text: proxy } }) });
      const said = await client.list('/v1/vms', {}).then(({ asked }) => asked, (error) => error.name);
      await client.close();
      return said;
    };
    const address = 'https://[::1]:${proxy.port}';
    const said = [await list(address), await list('https://cloud.test', address), await list('http://cloud.test', address)];
    console.log(JSON.stringify({ said, known: defaultAuthorities() }));`;
    for (const options of starts) {
      const words = options.join(' ') || 'no options';
      const { said, known } = await printed(program, options, nobody);
      t.strictSame(said, ['ConnectionError', 'ConnectionError', 'ConnectionError'], `${words}: nobody vouches`);
      t.ok(
        rootCertificates.every((pem) => known.includes(pem)),
        `${words}: the well-known authorities`,
      );
      for (const env of [extra, machine]) {
        const { said } = await printed(program, options, env);
        const asked = ['/v1/vms', '/v1/vms', 'http://cloud.test/v1/vms'];
        t.strictSame(said, asked, `${words}: directly, by a tunnel, by a proxy`);
      }
    }
  },
);

t.test(
  'an executable that is asked for its schema reads no authorities',
  { skip: !canMakeExecutable && 'SKIPPED: executables are made on Linux only' },
  async (t) => {
    const directory = join(temporaryDirectory(t), 'executable');
    await buildExecutable(directory);
    const terraform = createCertificate();
    const env = {
      [COOKIE_NAME]: COOKIE_VALUE,
      PLUGIN_PROTOCOL_VERSIONS: '6',
      PLUGIN_CLIENT_CERT: terraform.pem,
      NODE_DEBUG_NATIVE: 'CRYPTO',
    };
    const loads = /Started loading bundled root certificates/;
    const { stderr } = await run(process.execPath, ['-e', 'require("node:tls")'], { env });
    t.match(stderr, loads, 'as Node does that is not told otherwise');

    const child = spawn(join(directory, executableName), { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = text(child.stderr);
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const [, , , socketPath = '', , certificate = ''] = line.toString().trim().split('|');
    const serverPem = new X509Certificate(Buffer.from(certificate, 'base64')).toString();
    const client = await PluginClient.connect(socketPath, { own: terraform, serverPem });
    await client.raw('/tfplugin6.Provider/GetProviderSchema', frame(new Uint8Array()));
    await client.raw('/plugin.GRPCController/Shutdown', frame(new Uint8Array()));
    t.notMatch(await said, loads);
    client.close();
  },
);
