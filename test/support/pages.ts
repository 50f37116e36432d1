/**
 * The pages of the documentation, and the blocks of commands that no test runs. A test follows each page and runs its blocks
 * (test/support/guide.ts), unless a block has a row in `exemptions`. test/system/docs.test.ts checks this.
 */
import { globSync, readFileSync } from 'node:fs';
import { type GuideBlock, guideBlocks } from './guide.ts';

/** The paths of all pages of the repository, from its root. */
export const pages: readonly string[] = globSync('**/*.md', {
  exclude: (path) => /(^|\/)(node_modules|\.ucloud|\.tap|dist|cdktf\.out)$/.test(path),
}).toSorted();

/** The tests that follow a page from top to bottom, other than docs.test.ts. */
export const followedBy: Readonly<Record<string, string>> = {
  'docs/guides/from-nothing-to-ten-vms.md': 'test/system/from-nothing.test.ts',
  'docs/guides/keep-your-data.md': 'test/system/docs.test.ts',
  'docs/guides/choose-hosts.md': 'test/system/docs.test.ts',
  'docs/guides/announce-prefixes.md': 'test/system/bgp-guide.test.ts',
  'docs/guides/route-a-prefix.md': 'test/system/docs.test.ts',
  'docs/guides/change-interfaces.md': 'test/system/docs.test.ts',
  'docs/guides/filter-connections.md': 'test/system/docs.test.ts',
  'docs/guides/set-prices.md': 'test/system/docs.test.ts',
  'docs/guides/move-a-vm.md': 'test/system/vm-move-guide.test.ts',
  'docs/guides/bring-your-own-image.md': 'test/system/own-image.test.ts',
  'docs/ceph.md': 'test/host/ceph-guide.test.ts',
  'docs/lab.md': 'test/system/lab.test.ts',
  'docs/guides/add-a-second-host.md': 'test/system/second-host.test.ts',
  'docs/guides/ci-cd-pipeline.md': 'test/system/pipelines.test.ts',
  'cdk-examples/README.md': 'test/cdktf/examples.test.ts',
};

/** Generated copies of other pages. A test compares them. */
export const copies: Readonly<Record<string, string>> = Object.fromEntries(
  Object.keys(followedBy).map((page) => [page.replace(/^docs/, 'provider/docs'), page]),
);

interface Exemption {
  readonly page: string;
  /** The beginning of the block. */
  readonly begins: string;
  readonly reason: string;
}

const exemptions: readonly Exemption[] = [
  {
    page: 'README.md',
    begins: 'npm run demo',
    reason: 'stays up until Ctrl-C; test/system/demo.test.ts runs it with --once',
  },
  { page: 'README.md', begins: 'npm test', reason: 'is what runs this' },
  {
    page: 'CONTRIBUTING.md',
    begins: 'npm test ',
    reason: 'is what runs this; test/unit/repository-rules.test.ts runs lint, types and generators',
  },
  ...['cdk-examples/README.md', 'provider/constructs/README.md'].map((page) => ({
    page,
    begins: 'npm install cdktf constructs ./',
    reason: 'installs from the Internet; test/cdktf/package.test.ts installs the same without',
  })),
  {
    page: 'cdk-examples/README.md',
    begins: 'npm ci --ignore-scripts',
    reason: 'installs 500 packages, which npm test does itself; test/cdktf/examples.test.ts deploys with them',
  },
  {
    page: 'docs/guest-images.md',
    begins: "curl -g 'http://[fe80",
    reason: 'for the inside of a guest: test/host/metadata.test.ts and guest.test.ts ask the same way there',
  },
  {
    page: 'docs/guides/route-a-prefix.md',
    begins: 'sysctl -w',
    reason: 'for the inside of a guest: the guests of test/host/prefix-routes.test.ts forward in the same way',
  },
  {
    page: 'docs/guides/change-interfaces.md',
    begins: 'ip -6 rule add',
    reason: 'for the inside of a guest with two networks',
  },
  {
    page: 'docs/ceph.md',
    begins: 'apt-get install',
    reason: 'scripts/setup.sh installs the same packages before the tests',
  },
  {
    page: 'docs/provider-registry.md',
    begins: 'npx ucloud up --tls-cert',
    reason: 'test/terraform/registry.test.ts and test/system/pipelines.test.ts install from such a cloud',
  },
  {
    page: 'docs/provider-registry.md',
    begins: 'terraform providers mirror',
    reason: 'needs providers for other platforms; test/terraform/registry.test.ts runs it for its own',
  },
  {
    page: 'docs/terraform-state.md',
    begins: 'Error: Error acquiring the state lock',
    reason: 'takes two at once; test/terraform/state-backend.test.ts has them',
  },
];

/** Returns why the tests skip a block; undefined if they do not. */
export const exemption = (page: string, block: GuideBlock): string | undefined =>
  exemptions.find((each) => each.page === page && block.text.startsWith(each.begins))?.reason;

/** Returns the rows that fit no block any more. */
export const staleExemptions = (): readonly Exemption[] =>
  exemptions.filter(
    ({ page, begins }) => !guideBlocks(readFileSync(page, 'utf8')).some(({ text }) => text.startsWith(begins)),
  );
