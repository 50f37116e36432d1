/**
 * File names and checksum lists of Terraform provider packages, in the layout of registries and mirrors:
 * https://developer.hashicorp.com/terraform/registry/providers/publishing and
 * https://developer.hashicorp.com/terraform/cli/config/config-file#filesystem_mirror
 */

/** The parts of a package's file name. */
export interface PackageName {
  /** The last part of the provider's address: `ucloud`. */
  readonly type: string;
  /** Semantic version. */
  readonly version: string;
  /** The operating system as Go names it: `linux`, `darwin`. */
  readonly os: string;
  readonly arch: string;
}

const number = '(?:0|[1-9]\\d{0,8})';
const semver = `${number}\\.${number}\\.${number}(?:-[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?`;
const word = '[a-z0-9]+(?:-[a-z0-9]+)*';

const packageName = new RegExp(`^terraform-provider-(${word})_(${semver})_([a-z0-9]{1,20})_([a-z0-9]{1,20})\\.zip$`);
const versionName = new RegExp(`^${semver}$`);
const namespaceOrType = new RegExp(`^(?=.{1,64}$)${word}$`);
const hostLabel = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const hostName = new RegExp(`^(?=.{1,260}$)${hostLabel}(?:\\.${hostLabel})*(?::\\d{1,5})?$`);

/** Tells whether the text is a semantic version (semver.org) of at most 100 characters. */
export const isVersion = (text: string): boolean => text.length <= 100 && versionName.test(text);

/** Tells whether the text is a namespace or a type in the normal form that Terraform sends. */
export const isProviderWord = (text: string): boolean => namespaceOrType.test(text);

/** Tells whether the text is the host name of a provider's address, with its port unless that is 443. */
export const isProviderHost = (text: string): boolean => hostName.test(text);

/**
 * Parses a file name such as `terraform-provider-ucloud_0.1.0_linux_amd64.zip`. Returns undefined for any other text.
 */
export function parsePackageName(name: string): PackageName | undefined {
  const [, type, version, os, arch] = (name.length <= 255 && packageName.exec(name)) || [];
  if (type === undefined || version === undefined || os === undefined || arch === undefined) return undefined;
  return { type, version, os, arch };
}

/** Returns the file name of a package. */
export const packageFileName = ({ type, version, os, arch }: PackageName): string =>
  `terraform-provider-${type}_${version}_${os}_${arch}.zip`;

/**
 * Parses the output of `sha256sum`. Returns the SHA-256 of each file by its name, or undefined if a line has another
 * form.
 */
export function parseChecksums(text: string): ReadonlyMap<string, string> | undefined {
  const sums = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, sum, name] = /^([0-9a-f]{64}) [ *]([^/\s]+)$/.exec(line) ?? [];
    if (sum === undefined || name === undefined) return undefined;
    sums.set(name, sum);
  }
  return sums;
}
