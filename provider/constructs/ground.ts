/** What VMs stand on, a single one as well as a group: their image, their network, and the keys that they let in. */
import { createHash } from 'node:crypto';
import { DefaultTokenResolver, Fn, StringConcat, type TerraformProvider, Token, Tokenization } from 'cdktf';
import type { Construct } from 'constructs';
import { DataUcloudImage } from './bindings/data-ucloud-image/index.ts';
import { SshKey } from './bindings/ssh-key/index.ts';
import { checkedName, fail, mustBeKnown } from './checks.ts';
import { Network } from './network.ts';
import { idOf, type Reference } from './reference.ts';

export interface GroundConfig {
  /**
   * The image: its name, such as `demo`, which is looked up; or what has its id, as a construct, a data source, or
   * `{ id: 'img-0123456789abcdef' }`.
   */
  readonly image: string | { readonly id: string };
  /**
   * The network: a construct, a data source, or an id.
   * @default a network of its own, in a prefix of its own
   */
  readonly network?: Reference;
  /**
   * Public keys that may log in, each a line in the format of OpenSSH (`ssh-ed25519 AAAA…`). An SSH key is made for each,
   * with a name that follows from its text: one that is added or taken away touches no other. The list has to be known
   * while the app runs, its elements need not.
   * @default none
   */
  readonly publicKeys?: readonly string[];
  /**
   * SSH keys that exist already: constructs, data sources, or ids. The whole list may be one that only Terraform knows.
   * @default none
   */
  readonly sshKeys?: readonly Reference[];
  /** Id of the project of all that is made. @default `project` of the provider, else the project of its token */
  readonly project?: string;
  /** With which provider it is made. @default the provider without an alias */
  readonly provider?: TerraformProvider;
}

/** What has been found or made. */
export interface Ground {
  readonly image: { readonly id: string };
  readonly network: Reference;
  /** Made where none was given. */
  readonly ownNetwork: Network | undefined;
  /** Made of public keys. */
  readonly ownKeys: readonly SshKey[];
  /** Ids of all keys. */
  readonly sshKeys: string[];
}

/**
 * Finds or makes it, as children of `scope`.
 * @param name of what is made, or what its name begins with
 */
export function ground(scope: Construct, name: string, config: GroundConfig): Ground {
  const { image, publicKeys = [], sshKeys = [], project, provider } = config;
  if (image === undefined || image === '') fail(scope, 'give image: the name of one, or what has its id');
  const meta = { ...(provider && { provider }) };
  const owned = { ...meta, ...(project !== undefined && { project }) };

  let { network } = config;
  let ownNetwork: Network | undefined;
  if (network === undefined) {
    ownNetwork = new Network(scope, 'network', { name, ...owned });
    network = ownNetwork;
  }

  mustBeKnown(scope, 'how many publicKeys there are', publicKeys);
  const ownKeys = publicKeys.map((given, index) => {
    // A file that was read ends with a line break.
    const publicKey = given.trim();
    const keyId = `key-${digits(expression(scope, publicKey))}`;
    if (scope.node.tryFindChild(keyId)) fail(scope, `publicKeys[${index}] is there twice`);
    // The name follows from the key itself, which Terraform may be the only one to know.
    const mark = Token.isUnresolved(publicKey) ? Fn.substr(Fn.sha256(publicKey), 0, marked) : digits(publicKey);
    return new SshKey(scope, keyId, {
      name: checkedName(scope, `${name}-${mark}`, 'the name of an SSH key, made of name,'),
      publicKey,
      ...owned,
      // So that a key which is taken away or changes goes only after the VMs have been told that they no longer have it.
      lifecycle: { createBeforeDestroy: true },
    });
  });

  return {
    image: typeof image === 'string' ? new DataUcloudImage(scope, 'image', { name: image, ...meta }) : image,
    network,
    ownNetwork,
    ownKeys,
    sshKeys: joined(ownKeys, sshKeys),
  };
}

/** The ids of all. A list that only Terraform knows cannot be spread, so Terraform is told to join them. */
export function joined(...lists: readonly (readonly Reference[])[]): string[] {
  const known = lists.filter((list) => !Token.isUnresolved(list)).flat();
  const unknown = lists.filter((list) => Token.isUnresolved(list));
  const [first, ...more] = unknown;
  if (first === undefined) return known.map(idOf);
  const strings = (list: readonly Reference[]) => list as readonly string[] as string[];
  if (known.length === 0 && more.length === 0) return strings(first);
  return Fn.concat([...(known.length > 0 ? [known.map(idOf)] : []), ...unknown.map(strings)]) as string[];
}

/** The entries of all; of those with the same key the last. Again by Terraform where only it knows them. */
export function merged(...maps: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  if (!maps.some((map) => Token.isUnresolved(map))) return Object.assign({}, ...maps) as Record<string, string>;
  return Token.asStringMap(Fn.merge(maps.filter((map) => Token.isUnresolved(map) || Object.keys(map).length > 0)));
}

/** How many digits tell one key from another. */
const marked = 8;
const digits = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, marked);

/** What Terraform will be given: the text, or an expression. */
const expression = (scope: Construct, text: string): string =>
  String(
    Tokenization.resolve(text, {
      scope,
      resolver: new DefaultTokenResolver(new StringConcat()),
      preparing: false,
    }),
  );
