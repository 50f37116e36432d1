/** The dependencies of a single VM or a group of VMs: the image, the network, and the SSH keys. */
import { createHash } from 'node:crypto';
import { DefaultTokenResolver, Fn, StringConcat, type TerraformProvider, Token, Tokenization } from 'cdktf';
import type { Construct } from 'constructs';
import { DataUcloudImage } from './bindings/data-ucloud-image/index.ts';
import { SshKey } from './bindings/ssh-key/index.ts';
import { fail, requireKnown, validateName } from './checks.ts';
import { Network } from './network.ts';
import { idOf, type Reference } from './reference.ts';

/** The options for the dependencies of VMs. */
export interface VmDependenciesConfig {
  /**
   * The image: its name, such as `demo`; the newest image of a family, such as `family/debian-12`; or an object with its
   * id (a construct, a data source, or `{ id: 'img-0123456789abcdef' }`).
   */
  readonly image: string | { readonly id: string };
  /**
   * The network: a construct, a data source, or an id.
   * @default a new network with a new prefix
   */
  readonly network?: Reference;
  /**
   * The public keys for logins, each a line in OpenSSH format (`ssh-ed25519 AAAA…`). The construct creates an SSH key
   * for each, with a name derived from its text. So adding or removing one key does not affect the others. The app must
   * know the length of the list; an element may be a token.
   * @default none
   */
  readonly publicKeys?: readonly string[];
  /**
   * Existing SSH keys: constructs, data sources, or ids. The whole list may be a token.
   * @default none
   */
  readonly sshKeys?: readonly Reference[];
  /**
   * The id of the project for all created resources.
   * @default `project` of the provider, otherwise the project of its token
   */
  readonly project?: string;
  /**
   * The provider for all created resources.
   * @default the provider without an alias
   */
  readonly provider?: TerraformProvider;
}

/** The found and created dependencies of VMs. */
export interface VmDependencies {
  readonly image: { readonly id: string };
  readonly network: Reference;
  /** The created network; undefined if a network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were created from `publicKeys`. */
  readonly ownKeys: readonly SshKey[];
  /** The ids of all SSH keys. */
  readonly sshKeys: string[];
}

/**
 * Finds or creates the dependencies of VMs, as children of `scope`.
 * @param name the name of the created resources, or the beginning of their names
 * @throws Error that names the construct and the invalid option
 */
export function createVmDependencies(scope: Construct, name: string, config: VmDependenciesConfig): VmDependencies {
  const { image, provider } = config;
  if (image === undefined || image === '') fail(scope, 'image is missing: give its name, or an object with its id');
  const meta = { ...(provider && { provider }) };
  const found =
    typeof image === 'string' ? new DataUcloudImage(scope, 'image', { ...imageNamed(image), ...meta }) : image;
  return { ...createOtherDependencies(scope, name, config), image: found };
}

/** Does the same for VMs that need no image. */
export function createOtherDependencies(
  scope: Construct,
  name: string,
  config: Omit<VmDependenciesConfig, 'image'>,
): Omit<VmDependencies, 'image'> {
  const { publicKeys = [], sshKeys = [], project, provider } = config;
  const meta = { ...(provider && { provider }) };
  const owned = { ...meta, ...(project !== undefined && { project }) };

  let { network } = config;
  let ownNetwork: Network | undefined;
  if (network === undefined) {
    ownNetwork = new Network(scope, 'network', { name, ...owned });
    network = ownNetwork;
  }

  requireKnown(scope, 'how many publicKeys there are', publicKeys);
  const ownKeys = publicKeys.map((given, index) => {
    // A key that was read from a file ends with a line break.
    const publicKey = given.trim();
    const keyId = `key-${keyDigest(resolveExpression(scope, publicKey))}`;
    if (scope.node.tryFindChild(keyId)) fail(scope, `publicKeys[${index}] occurs twice`);
    // The name contains a digest of the key. If the key is a token, Terraform computes the digest.
    const mark = Token.isUnresolved(publicKey)
      ? Fn.substr(Fn.sha256(publicKey), 0, keyDigestLength)
      : keyDigest(publicKey);
    return new SshKey(scope, keyId, {
      name: validateName(scope, `${name}-${mark}`, 'the name of an SSH key, formed from name,'),
      publicKey,
      ...owned,
      // With this order, Terraform updates the VMs before it deletes a removed or changed key.
      lifecycle: { createBeforeDestroy: true },
    });
  });

  return {
    network,
    ownNetwork,
    ownKeys,
    sshKeys: concatIds(ownKeys, sshKeys),
  };
}

/** Names have no slash, so the text of a family is never a name. */
const imageNamed = (text: string): { name: string } | { family: string } =>
  text.startsWith('family/') ? { family: text.slice('family/'.length) } : { name: text };

/** Returns the ids of all lists. The app cannot spread a list that is a token, so Terraform concatenates such lists. */
export function concatIds(...lists: readonly (readonly Reference[])[]): string[] {
  const known = lists.filter((list) => !Token.isUnresolved(list)).flat();
  const unknown = lists.filter((list) => Token.isUnresolved(list));
  const [first, ...more] = unknown;
  if (first === undefined) return known.map(idOf);
  const strings = (list: readonly Reference[]) => list as readonly string[] as string[];
  if (known.length === 0 && more.length === 0) return strings(first);
  return Fn.concat([...(known.length > 0 ? [known.map(idOf)] : []), ...unknown.map(strings)]) as string[];
}

/** Merges the maps; a later entry replaces an earlier one with the same key. Terraform merges maps that are tokens. */
export function mergeMaps(...maps: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  if (!maps.some((map) => Token.isUnresolved(map))) return Object.assign({}, ...maps) as Record<string, string>;
  return Token.asStringMap(Fn.merge(maps.filter((map) => Token.isUnresolved(map) || Object.keys(map).length > 0)));
}

/** The number of hex digits that distinguish the keys. */
const keyDigestLength = 8;
const keyDigest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, keyDigestLength);

/** Returns the text that Terraform gets: the text itself, or an expression. */
const resolveExpression = (scope: Construct, text: string): string =>
  String(
    Tokenization.resolve(text, {
      scope,
      resolver: new DefaultTokenResolver(new StringConcat()),
      preparing: false,
    }),
  );
