/**
 * Stock images of Debian, with cloud-init and nothing of ucloud: the guest gets the address that ucloud computed, without
 * one frame of IPv4 or DHCP, and reports that it is ready.
 *
 * `npm test` boots one image. `npm run test:images` boots all; this takes about half an hour. UCLOUD_STOCK_IMAGES names
 * some of them: `bookworm/netplan,trixie/ifupdown`.
 */
// Boots guests: each takes a core without hardware virtualisation.
import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { type StockImage, stacks, stockImage } from '../support/stock-image.ts';
import type { StockVm } from '../support/stock-vm.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);

const all: readonly StockImage[] = (['bookworm', 'trixie'] as const).flatMap((suite) =>
  stacks.map((stack) => ({ suite, stack })),
);
const { UCLOUD_STOCK_IMAGES: wanted = 'bookworm/networkd' } = process.env;
const images = all.filter(({ suite, stack }) => wanted === 'all' || wanted.split(',').includes(`${suite}/${stack}`));
if (images.length === 0) throw new Error(`UCLOUD_STOCK_IMAGES names no image: ${wanted}`);

const absent = ['mmdebstrap', 'python3', 'ssh'].find((name) => spawnSync(name, ['--help']).error !== undefined);
const skip = (await noQemu()) || (absent === undefined ? false : `${absent} is not installed`);

for (const image of images) {
  const name = `${image.suite} with ${image.stack}`;
  t.test(`${name} is ready with its declared address alone`, { skip, timeout: 1_200_000 }, async (t) => {
    const path = await stockImage(image);
    const namespace = netNamespace(t, 'stock');
    const directory = temporaryDirectory(t);
    const program = [
      process.execPath,
      'test/support/stock-vm.ts',
      join(directory, 'data'),
      path,
      ...(images.length > 1 ? ['reboot'] : []),
    ];
    const { stdout } = await exec('ip', ['netns', 'exec', namespace.name, ...program], { maxBuffer: 2 ** 24 });
    const seen = JSON.parse(stdout) as StockVm;
    t.comment(`running after ${seen.seconds.running.toFixed(1)} s, ready after ${seen.seconds.ready.toFixed(1)} s`);
    t.strictSame(seen.addresses, [seen.declared], 'the guest uses the declared address, and no other');
    const interfaceId = seen.declared.split(':').slice(-4).join(':');
    t.strictSame(seen.linkLocal, [`fe80::${interfaceId}`], 'the link-local address follows from the MAC address');
    t.equal(seen.hostName, 'stock');
    t.equal(seen.userData, 'written ran', 'cloud-init followed the user data');
    t.strictSame(seen.errors, [], 'cloud-init has no errors');
    t.match(seen.status, { phase: 'running', ready: true, user_data: 'ok' });
    t.match(seen.frames, { IPv4: undefined, DHCPv6: undefined }, 'the guest sent no frame of IPv4 or DHCP');
    t.match(seen.strayed, { phase: 'running', reason: 'other_addresses', message: /uses other addresses/ });
    if (seen.rebooted) t.match(seen.rebooted, { phase: 'running', ready: true, user_data: 'ok', reason: undefined });
    t.ok((seen.frames.IPv6 ?? 0) > 20, 'the capture saw the guest');
  });
}
