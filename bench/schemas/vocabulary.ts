// A large vocabulary: the first tokens of OpenAI's o200k_base, which are those of a smaller vocabulary that was made in the
// same way. Texts are cut into the longest tokens, which needs no merges.
import ranks from "gpt-tokenizer/bpeRanks/o200k_base";
import { tokenTrie, type TokenTrie } from "../../lib/structured/token-trie.js";
import { atOnce } from "../../lib/util/turns.js";

/** Number of tokens, as Qwen 3 has them. */
export const vocabularySize = 151_936;

/** Name of the vocabulary in the results. */
export const vocabularyName = `the first ${vocabularySize.toLocaleString("en")} tokens of o200k_base`;

const tokens = ranks.slice(0, vocabularySize).map((token) => Buffer.from(token as Uint8Array | string));
const bytesOf = (id: number): Uint8Array => tokens[id]!;

/** The tokens as the automata need them. */
export const trie: TokenTrie = atOnce(tokenTrie(bytesOf, vocabularySize, vocabularySize));

/** Returns the longest tokens of a text, one after the other. */
export function longestTokens(text: string): number[] {
  const bytes = Buffer.from(text);
  const found: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const id = longestToken(bytes, at);
    found.push(id);
    at += tokens[id]!.length;
  }
  return found;
}

function longestToken(bytes: Buffer, from: number): number {
  let longest = -1;
  let [first, end] = [0, trie.bytes.length];
  for (let at = from; at < bytes.length; at++) {
    let node = first;
    while (node < end && trie.bytes[node] !== bytes[at]) node = trie.ends[node]!;
    if (node >= end) break;
    if (trie.firsts[node]! < trie.firsts[node + 1]!) longest = trie.ids[trie.firsts[node]!]!;
    [first, end] = [node + 1, trie.ends[node]!];
  }
  if (longest === -1) throw new Error(`expected a token for byte ${bytes[from]!}, got none`);
  return longest;
}
