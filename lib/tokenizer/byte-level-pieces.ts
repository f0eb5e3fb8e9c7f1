// The ways in which byte-level encodings cut text into pieces before the merges, by the names that GGUF files have for
// them ("tokenizer.ggml.pre"). The expressions are those of the models' own tokenizer.json.

/** The rules by which text is cut into pieces before the merges. */
export interface Pieces {
  /** Regular expressions that cut the text one after the other; `individualDigits` makes a piece of each digit. */
  readonly cuts: readonly string[];
  /** True if GPT-2's expression cuts the text in the end. */
  readonly gpt2: boolean;
  /** True if the text is first normalized to Unicode's composed form (NFC). */
  readonly composed: boolean;
  /** True if a piece that is a token of the vocabulary is not merged from its characters but used directly. */
  readonly ignoreMerges: boolean;
  /** True if the token of the beginning is put before a text unless the file says otherwise. */
  readonly begins: boolean;
}

/** The cut that makes a piece of each digit. */
export const individualDigits = "digits";

const contractions = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`;
const lineEnds = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;

/**
 * Returns the expression of OpenAI's later models, which matches words, numbers as `numbers` defines them, runs of
 * signs and runs of white space.
 */
const later = (numbers: string, letters = String.raw`\p{L}`, signs = String.raw`\p{L}\p{N}`): string =>
  [
    contractions,
    String.raw`[^\r\n\p{L}\p{N}]?${letters}+`,
    numbers,
    String.raw` ?[^\s${signs}]+[\r\n]*`,
    lineEnds,
  ].join("|");

/** Returns the expression that also begins a piece at a capital within a word. */
const capitals = (ending: string, numbers: string): string => {
  const [upper, lower] = [String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`];
  const before = String.raw`[^\r\n\p{L}\p{N}]?`;
  return [
    `${before}${upper}*${lower}+${ending}`,
    `${before}${upper}+${lower}*${ending}`,
    numbers,
    String.raw` ?[^\s\p{L}\p{N}]+[\r\n/]*`,
    lineEnds,
  ].join("|");
};

const plain: Pieces = { cuts: [], gpt2: true, composed: false, ignoreMerges: false, begins: false };
const by = (...cuts: string[]): Pieces => ({ ...plain, cuts, gpt2: false });

const [one, three] = [String.raw`\p{N}`, String.raw`\p{N}{1,3}`];
const composed: Pieces = { ...plain, composed: true };
const digits: Pieces = { ...plain, cuts: [individualDigits] };
const threeDigits = by(later(three));
const llama3: Pieces = { ...threeDigits, ignoreMerges: true, begins: true };
const oneDigit = by(later(one));
const qwen2: Pieces = { ...oneDigit, composed: true };
const gpt4o = by(capitals(`${contractions}?`, three));
const deepseek3 = by(
  three,
  "[一-龥぀-ゟ゠-ヿ]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
);
const bloom = by(String.raw` ?[^(\s|.,!?…。，、।۔،)]+`);

/** Letters of the scripts that have capitals, which DeepSeek's first models list one by one. */
const casedLetters = String.raw`\p{Lu}\p{Ll}\p{Lt}`;
const ideographs = "[一-龥ࠀ-一가-퟿]+";

/** The known ways to cut text, by name. If several names mean the same, the first one is written to files. */
export const known: Readonly<Record<string, Pieces>> = {
  ...{ "gpt-2": plain, "phi-2": plain, exaone4: plain, jais: plain, trillion: plain, mellum: plain, gigachat: plain },
  ...{ "a.x-4.0": plain, "granite-docling": plain },
  ...{ olmo: composed, mpt: composed, "modern-bert": composed },
  ...{ "llama-bpe": llama3, llama3, "llama-v3": llama3, falcon3: llama3, "falcon-h1": llama3, pixtral: llama3 },
  ...{ "midm-2.0": llama3, lfm2: llama3 },
  ...{ dbrx: threeDigits, "smaug-bpe": threeDigits, "chatglm-bpe": threeDigits, glm4: threeDigits },
  ...{ qwen2, "deepseek-r1-qwen": qwen2, megrez: qwen2 },
  ...{ stablelm2: oneDigit, hunyuan: oneDigit, "solar-open": oneDigit, "grok-2": oneDigit },
  qwen35: { ...by(later(one, String.raw`[\p{L}\p{M}]`, String.raw`\p{L}\p{M}\p{N}`)), composed: true },
  ...{ smollm: digits, starcoder: digits, refact: digits, codeshell: digits, exaone: digits, "minerva-7b": digits },
  "command-r": { ...digits, composed: true },
  tekken: { ...by(capitals("", one)), ignoreMerges: true, begins: true },
  ...{ "gpt-4o": gpt4o, llama4: gpt4o, kanana2: gpt4o, "minimax-m2": gpt4o },
  ...{ "deepseek-v3": deepseek3, "hunyuan-dense": deepseek3, "joyai-llm": deepseek3 },
  "deepseek-llm": by(
    ...["[\r\n]", `\\s?[${casedLetters}]+`, "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", String.raw`\s+$`, ideographs],
    String.raw`\p{N}+`,
  ),
  "deepseek-coder": by("[\r\n]", String.raw`\s?\p{L}+`, String.raw`\s?\p{P}+`, ideographs, individualDigits),
  falcon: by(
    String.raw`[\p{P}\$\+<=>\^~\|\x60]+`,
    String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
    "[0-9][0-9][0-9]",
  ),
  ...{ bloom, "poro-chat": bloom, "gpt3-finnish": bloom },
  viking: { ...bloom, cuts: [...bloom.cuts, individualDigits] },
  "seed-coder": by(
    [contractions, String.raw`[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+`, lineEnds].join("|"),
  ),
};
