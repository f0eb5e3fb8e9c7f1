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
const japaneseOrChinese = "[一-龥぀-ゟ゠-ヿ]+";
const signedWords =
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+";
const deepseek3 = by(three, japaneseOrChinese, String.raw`${signedWords}[\r\n]*|${lineEnds}`);
/** The rule of Ling's models, in which white space before a line end belongs to it. */
const bailing = by(
  String.raw`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`,
);
const bloom = by(String.raw` ?[^(\s|.,!?…。，、।۔،)]+`);

/** Returns the part of a character class for ranges of code points in hexadecimal. */
const classOf = (ranges: string): string =>
  ranges.replaceAll(/[\da-f]+/g, (code) => String.fromCodePoint(Number.parseInt(code, 16))).replaceAll(" ", "");

/**
 * The letters that DeepSeek's first models list one by one: those of scripts that have capitals, but neither all of the
 * scripts (the small letters of Armenian and Georgian are missing) nor mathematical letters.
 */
const casedLetters = classOf(
  "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943",
);
const ideographs = "[一-龥ࠀ-一가-퟿]+";

/** The known ways to cut text, by name. If several names mean the same, the first one is written to files. */
export const known: Readonly<Record<string, Pieces>> = {
  ...{ "gpt-2": plain, "phi-2": plain, exaone4: plain, jais: plain, trillion: plain, mellum: plain, gigachat: plain },
  ...{ "a.x-4.0": plain, "granite-docling": plain },
  ...{ olmo: composed, mpt: composed, "modern-bert": composed },
  ...{ "llama-bpe": llama3, llama3, "llama-v3": llama3, falcon3: llama3, "falcon-h1": llama3, pixtral: llama3 },
  ...{ "midm-2.0": llama3, lfm2: llama3, "jina-v5-nano": llama3 },
  ...{ dbrx: threeDigits, "smaug-bpe": threeDigits, "chatglm-bpe": threeDigits, glm4: threeDigits },
  ...{ qwen2, "deepseek-r1-qwen": qwen2, megrez: qwen2 },
  ...{ stablelm2: oneDigit, hunyuan: oneDigit, "solar-open": oneDigit, "grok-2": oneDigit },
  qwen35: { ...by(later(one, String.raw`[\p{L}\p{M}]`, String.raw`\p{L}\p{M}\p{N}`)), composed: true },
  ...{ smollm: digits, starcoder: digits, refact: digits, codeshell: digits, exaone: digits, "minerva-7b": digits },
  mellum2: digits,
  "command-r": { ...digits, composed: true },
  tekken: { ...by(capitals("", one)), ignoreMerges: true, begins: true },
  ...{ "gpt-4o": gpt4o, llama4: gpt4o, kanana2: gpt4o, "minimax-m2": gpt4o, talkie: gpt4o },
  "granite-embed-multi-97m": { ...gpt4o, ignoreMerges: true },
  ...{ "deepseek-v3": deepseek3, "hunyuan-dense": deepseek3, "joyai-llm": deepseek3, hy_v4: deepseek3 },
  spark2_5: by(three, japaneseOrChinese, String.raw`${signedWords}|[\r\n]|\s+(?!\S)|\s+`, one),
  youtu: {
    ...by(`[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|${japaneseOrChinese}`, capitals(`${contractions}?`, one)),
    ignoreMerges: true,
  },
  ...{ bailingmoe: bailing, bailingmoe2: bailing, "llada-moe": bailing },
  minicpm5: { ...by(three, later(String.raw`\p{N}+`)), ignoreMerges: true },
  ufakzeka: by(later(one).slice(contractions.length + 1)),
  "exaone-moe": by(
    String.raw`${contractions}|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`,
  ),
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
