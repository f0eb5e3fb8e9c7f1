// Reads a tokenizer.json that is to be written in another format, and refuses rules that formats with only a vocabulary
// and merges cannot express.
import { describe, HeedError } from "../util/errors.js";
import { type AddedToken, parseAddedTokens } from "./added-tokens.js";

/** A part of a tokenizer.json, such as a normalizer. */
export interface Part {
  readonly type?: unknown;
  readonly [option: string]: unknown;
}

/** The parts of a tokenizer.json with a BPE model. */
export interface BpeJson {
  readonly vocab: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  readonly model: Part;
  readonly added: readonly AddedToken[];
  readonly normalizers: readonly Part[];
  readonly cutters: readonly Part[];
  readonly decoders: readonly Part[];
}

/** Returns the error for a rule, named by `got`, that a format cannot express. */
export type Fault = (got: string) => HeedError;

/**
 * Returns the `Fault` of a format. `knows` completes the message "expected a byte-pair tokenizer that …", for example
 * with "a GGUF file can describe".
 */
export function faultOf(format: string, knows: string): Fault {
  return (got) => new HeedError("ERR_ARGUMENT", `${format}: expected a byte-pair tokenizer that ${knows}, got ${got}`);
}

/**
 * Returns the parts of a tokenizer.json.
 *
 * @throws the error that `fault` creates, if the model is not BPE or uses rules that no other format has.
 */
export function bpeJson(json: unknown, fault: Fault): BpeJson {
  const root = json as Readonly<Record<string, unknown>>;
  const model = root.model as Part & { vocab: object; merges?: unknown };
  const { vocab, merges } = model;
  if ((model.type !== undefined && model.type !== "BPE") || Array.isArray(vocab) || !Array.isArray(merges))
    throw fault(describe(model.type));
  for (const name of ["continuing_subword_prefix", "end_of_word_suffix"])
    if (typeof model[name] === "string" && model[name] !== "") throw fault(`${name} ${describe(model[name])}`);
  const added = parseAddedTokens(root.added_tokens ?? []);
  for (const { content, singleWord, lstrip, rstrip } of added) {
    const flag = Object.entries({ single_word: singleWord, lstrip, rstrip }).find(([, given]) => given)?.[0];
    if (flag !== undefined) throw fault(`the token ${JSON.stringify(content)} with ${flag}`);
  }
  checkOrder(added, fault);
  return {
    vocab: vocab instanceof Map ? (vocab as ReadonlyMap<string, number>) : new Map(Object.entries(vocab)),
    merges: merges.map((merge: string | [string, string]) =>
      typeof merge === "string" ? (merge.split(" ", 2) as [string, string]) : merge,
    ),
    model,
    added,
    normalizers: stepsOf(root.normalizer, "normalizers"),
    cutters: stepsOf(root.pre_tokenizer, "pretokenizers"),
    decoders: stepsOf(root.decoder, "decoders"),
  };
}

/**
 * Checks that it makes no difference that other formats find all added tokens at once. A tokenizer.json finds the
 * tokens of the original text before those of the normalized text.
 */
function checkOrder(added: readonly AddedToken[], fault: Fault): void {
  const [late, early] = [added.filter(({ normalized }) => normalized), added.filter(({ normalized }) => !normalized)];
  for (const { content } of late) {
    const other = early.find((token) => overlap(token.content, content));
    const [own, its] = [content, other?.content].map((text) => JSON.stringify(text));
    if (other) throw fault(`the normalized token ${own}, which overlaps ${its}, a token that is found before it`);
  }
}

/** Returns true if two tokens can occur in a text such that they share a character. */
function overlap(a: string, b: string): boolean {
  return a.includes(b) || b.includes(a) || meet(a, b) || meet(b, a);
}

/** Returns true if a prefix of one text is a suffix of the other, by the prefix function of Knuth et al. 1977. */
function meet(beginning: string, ending: string): boolean {
  const given = `${beginning}\ud800${ending}`;
  // For each position, the length of the longest prefix of the text that ends there.
  const longest = new Int32Array(given.length);
  for (let at = 1, length = 0; at < given.length; at++) {
    while (length > 0 && given[at] !== given[length]) length = longest[length - 1]!;
    if (given[at] === given[length]) length++;
    longest[at] = length;
  }
  return longest[given.length - 1]! > 0;
}

/** Returns the steps of a part in order. A Sequence is replaced by its steps. */
function stepsOf(part: unknown, name: string): Part[] {
  if (part === null || part === undefined) return [];
  const given = part as Part;
  const list = given[name];
  if (given.type !== "Sequence" || !Array.isArray(list)) return [given];
  return list.flatMap((step) => stepsOf(step, name));
}

/** Returns the names of steps, for messages. */
export function namesOf(steps: readonly Part[]): string {
  return steps.map(({ type }) => String(type)).join(", ") || "none";
}
