/**
 * The decoder for the Huffman code of HPACK (RFC 7541, section 5.2 and appendix B).
 *
 * The code is canonical: of two symbols whose codes are equally long, the smaller symbol has the smaller code. So all codes
 * follow from their lengths.
 */

/** The length of each symbol's code in bits, as a digit of base 36: the 256 bytes, then the end of the text. */
const LENGTHS =
  'dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca' +
  'd67777777777777777777777878djde6f56565666577666567655677777fbeds' +
  'kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn' +
  'qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq' +
  'u';
const END = 256;

/** Returns the tree as pairs: entries 2n and 2n + 1 are the successors of node n for 0 and 1, a node or ~symbol. */
function buildTree(): Int16Array {
  const tree = new Int16Array(2 * LENGTHS.length);
  let nodes = 1;
  let code = 0;
  for (let length = 1; length <= 30; length++) {
    for (let symbol = 0; symbol < LENGTHS.length; symbol++) {
      if (Number.parseInt(LENGTHS.charAt(symbol), 36) !== length) continue;
      let node = 0;
      for (let bit = length - 1; bit > 0; bit--) {
        const branch = 2 * node + ((code >> bit) & 1);
        if (tree[branch] === 0) tree[branch] = nodes++;
        node = tree[branch] ?? 0;
      }
      tree[2 * node + (code & 1)] = ~symbol;
      code++;
    }
    code <<= 1;
  }
  return tree;
}

let tree: Int16Array | undefined;

/** Returns the text, with one character for each byte; undefined for bytes that are not in this code. */
export function decodeHuffman(bytes: Uint8Array): string | undefined {
  tree ??= buildTree();
  const text: number[] = [];
  let node = 0;
  /** The number of bits since the last symbol, and whether all of them are 1, which padding requires. */
  let bits = 0;
  let ones = true;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      const value = (byte >> bit) & 1;
      const next = tree[2 * node + value] ?? 0;
      bits++;
      ones &&= value === 1;
      if (next >= 0) {
        node = next;
        continue;
      }
      if (~next === END) return undefined;
      text.push(~next);
      node = 0;
      bits = 0;
      ones = true;
    }
  }
  return bits < 8 && ones ? Buffer.from(text).toString('latin1') : undefined;
}
