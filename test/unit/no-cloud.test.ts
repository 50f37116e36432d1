/** The documents that cloud-init reads from the seed disk of a VM. */
import { execFileSync, spawnSync } from 'node:child_process';
import t from 'tap';
import { parse } from 'yaml';
import { noCloudDocuments } from '../../backend/model/guest/no-cloud.ts';

const mac = '42:00:5e:10:00:01';
const config = {
  id: 'vm-0000000000000001',
  name: 'web',
  sshKeys: ['ssh-ed25519 AAAA alice'],
  interfaces: [{ mac, dnsServers: ['2001:db8::53'], addresses: [] }],
  networkConfig: 'v1',
} as const;

t.test('the guest gets its name, its keys and its user data as they are declared', async (t) => {
  const userData = '#cloud-config\nruncmd: ["echo \'ä\'"]\r\n';
  const documents = noCloudDocuments({ ...config, userData });
  t.strictSame(parse(documents['meta-data']), {
    'instance-id': config.id,
    'local-hostname': 'web',
    'public-keys': config.sshKeys,
  });
  t.equal(documents['user-data'], userData, 'not one byte differs');
  t.equal(noCloudDocuments(config)['user-data'], '', 'a VM without user data gets an empty document');
});

t.test('both forms of the network configuration ask for SLAAC, and for neither DHCP nor IPv4', async (t) => {
  t.strictSame(parse(noCloudDocuments(config)['network-config']), {
    version: 1,
    config: [
      {
        type: 'physical',
        name: 'eth0',
        mac_address: mac,
        subnets: [{ type: 'ipv6_slaac', dns_nameservers: ['2001:db8::53'] }],
      },
    ],
  });
  t.strictSame(parse(noCloudDocuments({ ...config, networkConfig: 'v2' })['network-config']), {
    version: 2,
    ethernets: {
      id0: {
        match: { macaddress: mac },
        dhcp4: false,
        dhcp6: false,
        'accept-ra': true,
        nameservers: { addresses: ['2001:db8::53'] },
      },
    },
  });
  const bare = noCloudDocuments({ ...config, interfaces: [{ mac, dnsServers: [], addresses: [] }] })['network-config'];
  t.notMatch(bare, /nameservers/, 'without name servers, the guest uses those of router advertisements');
});

t.test('an MAC address of digits alone stays text', async (t) => {
  const digits = '42:00:11:22:33:44';
  const { config: links } = parse(
    noCloudDocuments({ ...config, interfaces: [{ mac: digits, dnsServers: [], addresses: [] }] })['network-config'],
  );
  t.equal(links[0].mac_address, digits);
});

const absent = ['shellcheck', 'python3'].find((program) => spawnSync(program, ['--version']).error !== undefined);
const skip = absent === undefined ? false : `${absent} is not installed`;

t.test('the vendor data is a multipart document whose scripts have no faults', { skip }, async (t) => {
  const document = noCloudDocuments(config)['vendor-data'];
  const [head = '', part = '', end] = document.split(/^--==ucloud-vendor-data==(?:--)?$/m);
  t.match(head, /^Content-Type: multipart\/mixed; boundary="==ucloud-vendor-data=="\nMIME-Version: 1\.0\n/);
  t.equal(end, '\n');
  const [type, ...script] = part.split('\n\n');
  t.equal(type?.trim(), 'Content-Type: text/cloud-boothook; charset="utf-8"');
  execFileSync('shellcheck', ['-s', 'sh', '-'], { input: script.join('\n\n'), encoding: 'utf8' });
  const python = /report\.py << 'END'\n([\s\S]*?)END\n/.exec(part)?.[1] ?? '';
  execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: python });
  t.match(python, 'fe80::a9fe:a9fe');
});
