/** Random tokenizer.json definitions, whose vocabularies are trained here, and random texts for them. */
import fc from "fast-check";
import { byteCharacter } from "../tokenizer/fixtures.js";

export interface Json {
  added_tokens: { id: number; content: string; special: boolean; [flag: string]: unknown }[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  post_processor: unknown;
  decoder: unknown;
  model: { vocab: Record<string, number>; merges: string[]; [option: string]: unknown };
  [part: string]: unknown;
}

const words = [
  "the",
  "The",
  " the",
  "hello",
  "world",
  "it's",
  "we'LL",
  "I’m",
  "naïve",
  "Ärger",
  "straße",
  "ΣΊΣΥΦΟΣ",
  "İl",
];
const digits = ["0", "12", "345", "6789", "٣٤", "²", "Ⅷ", "½", "๕"];
const spaces = [
  " ",
  "  ",
  "   ",
  "\t",
  "\n",
  "\r\n",
  "\n\n",
  "\u0085",
  "\ufeff",
  "\u00a0",
  "\u2003",
  "\u2028",
  "\u3000",
];
const signs = [".", ",", "!?", "...", "(", "-", "—", "«", "$", "$&", "+", "^", "`", "。", "_", "'"];
const others = [
  "é",
  "e\u0301",
  "\u0301",
  "日本",
  "한국어",
  "\u{20000}",
  "👍🏽",
  "👩‍🚀",
  "\u200b",
  "\u200d",
  "\u0000",
  "\u2581",
  "ﬁ",
  "Å",
];

/**
 * Names of added tokens, one of which begins with another. llama.cpp knows none of them by itself, as it knows <|end|>.
 */
export const names = ["<s>", "</s>", "<|e|>", "<|e|>x", "tool", "<tool>", "[é]", "\n\n\n"];

/** Texts of words, digits, white space, marks and emoji, with names of added tokens in between. */
export const anyText: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...words) },
      { weight: 3, arbitrary: fc.constantFrom(...spaces) },
      { weight: 1, arbitrary: fc.constantFrom(...digits) },
      { weight: 1, arbitrary: fc.constantFrom(...signs) },
      { weight: 2, arbitrary: fc.constantFrom(...others) },
      { weight: 2, arbitrary: fc.constantFrom(...names) },
    ),
    { maxLength: 14 },
  )
  .map((parts) => parts.join(""));

/** Returns pairs of neighbours, the most frequent first, which byte-pair encoding learns from these pieces. */
export function train(pieces: readonly string[], count: number): string[] {
  const texts = pieces.map((piece) => Array.from(piece));
  const merges: string[] = [];
  while (merges.length < count) {
    const found = new Map<string, number>();
    for (const parts of texts)
      for (let i = 0; i + 1 < parts.length; i++) {
        const pair = `${parts[i]} ${parts[i + 1]}`;
        found.set(pair, (found.get(pair) ?? 0) + 1);
      }
    const best = [...found].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0];
    if (!best || best[1] < 2) break;
    const [left, right] = best[0].split(" ") as [string, string];
    merges.push(best[0]);
    for (const parts of texts)
      for (let i = 0; i + 1 < parts.length; i++)
        if (parts[i] === left && parts[i + 1] === right) parts.splice(i, 2, left + right);
  }
  return merges;
}

const flags = fc.record({
  single_word: fc.boolean(),
  lstrip: fc.boolean(),
  rstrip: fc.boolean(),
  normalized: fc.boolean(),
  special: fc.boolean(),
});
export const plainFlags = flags.map(({ special }) => ({
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special,
}));

const added = (flagsOf: fc.Arbitrary<Record<string, boolean>>) =>
  fc
    .uniqueArray(fc.constantFrom(...names), { maxLength: 4 })
    .chain((chosen) => fc.tuple(...chosen.map((content) => flagsOf.map((given) => ({ content, ...given })))));

const template = fc.constantFrom<("before" | "after")[]>([], ["before"], ["before", "after"], ["after"]);

function templateOf(
  ends: readonly string[],
  tokens: readonly { id: number; content: string; special: boolean }[],
): unknown {
  const token = tokens.find(({ special }) => special);
  if (!token || ends.length === 0) return null;
  const around = { SpecialToken: { id: token.content, type_id: 0 } };
  const text = (id: string) => ({ Sequence: { id, type_id: 0 } });
  const around1 = ends.includes("before") ? [around] : [];
  const around2 = ends.includes("after") ? [around] : [];
  return {
    type: "TemplateProcessing",
    single: [...around1, text("A"), ...around2],
    pair: [...around1, text("A"), ...around2, text("B")],
    special_tokens: { [token.content]: { id: token.content, ids: [token.id], tokens: [token.content] } },
  };
}

const split = (expression: string, behavior = "Isolated", invert = false) => ({
  type: "Split",
  pattern: { Regex: expression },
  behavior,
  invert,
});
const behaviors = fc.constantFrom("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext");

/** Pre-tokenizers that may precede ByteLevel. */
const cutters = fc.oneof(
  fc
    .tuple(fc.constantFrom(String.raw`\s+`, String.raw`\p{N}`, "[aeiou]", "l+", " "), behaviors, fc.boolean())
    .map(([expression, behavior, invert]) => split(expression, behavior, invert)),
  fc.tuple(fc.constantFrom(" ", ".", "ll"), behaviors).map(([literal, behavior]) => {
    return { type: "Split", pattern: { String: literal }, behavior, invert: false };
  }),
  fc.boolean().map((individual_digits) => ({ type: "Digits", individual_digits })),
  behaviors.map((behavior) => ({ type: "Punctuation", behavior })),
  fc.constantFrom({ type: "Whitespace" }, { type: "WhitespaceSplit" }, { type: "BertPreTokenizer" }),
  fc.constant({ type: "CharDelimiterSplit", delimiter: " " }),
);

const normalizers = fc.oneof(
  fc.constantFrom("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents").map((type) => ({ type })),
  fc.tuple(fc.boolean(), fc.boolean()).map(([strip_left, strip_right]) => ({ type: "Strip", strip_left, strip_right })),
  fc
    .tuple(fc.constantFrom({ String: "l" }, { Regex: String.raw`\s+` }), fc.constantFrom("$", "$&", "", "x$$"))
    .map(([pattern, content]) => ({ type: "Replace", pattern, content })),
  fc.constant({ type: "Prepend", prepend: "_" }),
  fc
    .tuple(fc.boolean(), fc.boolean(), fc.constantFrom(null, true, false), fc.boolean())
    .map(([clean_text, handle_chinese_chars, strip_accents, lowercase]) => ({
      type: "BertNormalizer",
      clean_text,
      handle_chinese_chars,
      strip_accents,
      lowercase,
    })),
);

export interface ByteLevelChoices {
  /** Possible values in the file. By default all of them occur. */
  normalizer?: fc.Arbitrary<unknown>;
  pre_tokenizer?: fc.Arbitrary<unknown>;
  added?: fc.Arbitrary<Record<string, boolean>>;
  ignore_merges?: fc.Arbitrary<boolean>;
}

/** Random choices for a byte-level tokenizer. */
export interface ByteLevel {
  /** Texts from which merges are learned; `count` is the number of merges. */
  corpus: string[];
  count: number;
  normalizer: unknown;
  pre_tokenizer: unknown;
  ignore_merges: boolean;
  tokens: { content: string; [flag: string]: unknown }[];
  /** Sides on which a text gets a special token. */
  ends: ("before" | "after")[];
}

export function byteLevelTokenizer(choices: ByteLevelChoices = {}): fc.Arbitrary<ByteLevel> {
  const {
    normalizer = fc.oneof(
      { weight: 2, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: normalizers },
      {
        weight: 1,
        arbitrary: fc.array(normalizers, { maxLength: 3 }).map((list) => ({ type: "Sequence", normalizers: list })),
      },
    ),
    pre_tokenizer = fc
      .tuple(fc.array(cutters, { maxLength: 2 }), fc.boolean(), fc.boolean())
      .map(([list, add_prefix_space, use_regex]) => {
        const byteLevel = { type: "ByteLevel", add_prefix_space, trim_offsets: true, use_regex };
        return list.length === 0 ? byteLevel : { type: "Sequence", pretokenizers: [...list, byteLevel] };
      }),
    added: addedFlags = flags,
    ignore_merges = fc.boolean(),
  } = choices;
  return fc.record({
    corpus: fc.array(anyText, { minLength: 1, maxLength: 6 }),
    count: fc.nat(60),
    normalizer,
    pre_tokenizer,
    ignore_merges,
    tokens: added(addedFlags),
    ends: template,
  });
}

/** Returns tokens with ids after a vocabulary; tokens in the vocabulary keep their ids. */
function withIds(vocabulary: readonly string[], tokens: ByteLevel["tokens"]): Json["added_tokens"] {
  let next = vocabulary.length;
  return tokens.map((token) => {
    const at = vocabulary.indexOf(token.content);
    // A token that a normalizer empties, or whose white space another token takes, crashes Hugging Face's library.
    const normalized = token.normalized === true && token.content.trim() !== "";
    const blank = tokens.some(({ content }) => content.trim() === "");
    const [lstrip, rstrip] = [token.lstrip === true && !blank, token.rstrip === true && !blank];
    // In heed no merge makes a special token; llama.cpp always treats these two as special.
    const special = at < 0 && (token.special === true || /^<\/?s>$/.test(token.content));
    return { ...token, normalized, lstrip, rstrip, special, id: at >= 0 ? at : next++ };
  });
}

/** Returns the tokenizer.json for such choices. */
export function byteLevelJson({
  corpus,
  count,
  normalizer,
  pre_tokenizer,
  ignore_merges,
  tokens,
  ends,
}: ByteLevel): Json {
  const bytes = corpus.map((text) => Array.from(Buffer.from(text), byteCharacter).join(""));
  const merges = train(bytes, count);
  const vocabulary = [
    ...Array.from({ length: 256 }, (_, byte) => byteCharacter(byte)),
    ...new Set(merges.map((merge) => merge.replace(" ", ""))),
    // A token that no merge makes.
    ...(ignore_merges ? ["hello"] : []),
  ];
  const unique = [...new Set(vocabulary)];
  const added_tokens = withIds(unique, tokens);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens,
    normalizer,
    pre_tokenizer,
    post_processor: templateOf(ends, added_tokens),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges,
      vocab: Object.fromEntries(unique.map((token, id) => [token, id])),
      merges,
    },
  };
}

const space = "\u2581";
const byteNames = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const replaceSpaces = { type: "Replace", pattern: { String: " " }, content: space };
const metaspace = (prepend_scheme: string, split: boolean) => ({
  type: "Metaspace",
  replacement: space,
  prepend_scheme,
  split,
});

/** Random choices for a tokenizer in the style of SentencePiece. */
export interface Spaced {
  corpus: string[];
  count: number;
  /** True for Unigram, false for byte-pair encoding. */
  unigram: boolean;
  bytes: boolean;
  fuse_unk: boolean;
  /** The places at which spaces become U+2581, and at which one is put before a text. */
  spaces: "Prepend" | "Replace" | "always" | "first" | "never";
  split: boolean;
  normalizer: unknown;
  tokens: ByteLevel["tokens"];
  ends: ("before" | "after")[];
}

/** Generates tokenizers in the style of SentencePiece. */
export function spacedTokenizer(choices: { [K in keyof Spaced]?: fc.Arbitrary<unknown> } = {}): fc.Arbitrary<Spaced> {
  return fc.record({
    corpus: fc.array(anyText, { minLength: 1, maxLength: 6 }),
    count: fc.nat(60),
    unigram: fc.boolean(),
    bytes: fc.boolean(),
    fuse_unk: fc.boolean(),
    spaces: fc.constantFrom("Prepend", "Replace", "always", "first", "never"),
    split: fc.boolean(),
    normalizer: fc.oneof(fc.constant(null), normalizers),
    tokens: added(flags),
    ends: template,
    ...choices,
  }) as fc.Arbitrary<Spaced>;
}

/**
 * Returns every pair of pieces that makes a piece, in the order in which the pieces were learned: SentencePiece's
 * merges.
 */
export function allMerges(pieces: readonly string[]): string[] {
  const all = new Set(pieces);
  return pieces.flatMap((piece) => {
    const characters = Array.from(piece);
    const cuts = characters
      .slice(1)
      .map((_, i) => [characters.slice(0, i + 1).join(""), characters.slice(i + 1).join("")]);
    const pairs = cuts.filter(([left, right]) => all.has(left!) && all.has(right!)) as [string, string][];
    const at = (text: string) => pieces.indexOf(text);
    return pairs.sort(([a, b], [c, d]) => at(a) - at(c) || at(b) - at(d)).map(([left, right]) => `${left} ${right}`);
  });
}

/** Returns the tokenizer.json for such choices. */
export function spacedJson(choices: Spaced): Json {
  const { corpus, count, unigram, bytes, fuse_unk, spaces, split, tokens, ends } = choices;
  // If a normalizer has changed the beginning of a text, the meaning of "first" depends on Hugging Face's internal
  // records.
  const normalizer = spaces === "first" ? null : choices.normalizer;
  const texts = corpus.map((text) => `${space}${text.replaceAll(" ", space)}`);
  const learned = [...new Set(train(texts, count).map((merge) => merge.replace(" ", "")))];
  const characters = [...new Set(texts.flatMap((text) => Array.from(text)))].filter((text) => text !== " ");
  const vocabulary = [...new Set(["<unk>", ...(bytes ? byteNames : []), ...learned, ...characters])];
  const added_tokens = withIds(vocabulary, tokens);
  const inNormalizer = spaces === "Prepend" || spaces === "Replace";
  const own = normalizer === null ? [] : [normalizer];
  const prepend = spaces === "Prepend" ? [{ type: "Prepend", prepend: space }] : [];
  const part = metaspace(spaces, split);
  const decoders = [
    { type: "Replace", pattern: { String: space }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    ...(spaces === "Replace" || spaces === "never" ? [] : [{ type: "Strip", content: " ", start: 1, stop: 0 }]),
  ];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens,
    normalizer: inNormalizer ? { type: "Sequence", normalizers: [...own, ...prepend, replaceSpaces] } : normalizer,
    pre_tokenizer: inNormalizer ? null : part,
    post_processor: templateOf(ends, added_tokens),
    decoder: inNormalizer || bytes ? { type: "Sequence", decoders } : part,
    model: unigram
      ? {
          type: "Unigram",
          unk_id: 0,
          byte_fallback: bytes,
          // No two ways to split a text have the same score.
          vocab: vocabulary.map((piece, i) => [piece, -2 - Math.log(i + 2) - ((i * 7919) % 1009) / 1013]),
          merges: [],
        }
      : {
          type: "BPE",
          dropout: null,
          unk_token: "<unk>",
          continuing_subword_prefix: null,
          end_of_word_suffix: null,
          fuse_unk,
          byte_fallback: bytes,
          ignore_merges: false,
          vocab: Object.fromEntries(vocabulary.map((piece, id) => [piece, id])),
          merges: allMerges([...learned, ...characters]),
        },
  } as unknown as Json;
}

/** WordPiece vocabularies like BERT's. */
export const wordPieceTokenizer = fc.record({
  corpus: fc.array(anyText, { minLength: 1, maxLength: 4 }),
  normalizer: normalizers,
  pre_tokenizer: fc.oneof(fc.constant({ type: "BertPreTokenizer" }), cutters),
  tokens: added(flags),
  ends: template,
});

/** Returns the tokenizer.json for such choices. */
export function wordPieceJson(choices: {
  corpus: string[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  tokens: ByteLevel["tokens"];
  ends: ("before" | "after")[];
}): Json {
  const { corpus, normalizer, pre_tokenizer, tokens, ends } = choices;
  const parts = corpus.flatMap((text) => text.toLowerCase().split(/\s+/)).filter((text) => text !== "");
  const cuts = parts.flatMap((word) => [
    word,
    word.slice(0, 2),
    `##${word.slice(2)}`,
    ...Array.from(word, (c) => `##${c}`),
  ]);
  const vocabulary = [...new Set(["[UNK]", ...cuts])].filter((piece) => Buffer.from(piece).toString() === piece);
  const added_tokens = withIds(vocabulary, tokens);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens,
    normalizer,
    pre_tokenizer,
    post_processor: templateOf(ends, added_tokens),
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 12,
      vocab: Object.fromEntries(vocabulary.map((piece, id) => [piece, id])),
      merges: [],
    },
  };
}

/** Splits text as Llama 3's files do, and with other digits in `numbers` as Qwen 2's files do. */
const laterSplit = (numbers: string): object =>
  split(
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|${numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  );
const bytesWithout = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
const bytesWith = { ...bytesWithout, use_regex: true };
const inSequence = (...pretokenizers: object[]): object => ({ type: "Sequence", pretokenizers });
const mostly = (usual: unknown, ...others: unknown[]): fc.Arbitrary<unknown> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(usual) },
    ...others.map((value) => ({ weight: 1, arbitrary: fc.constant(value) })),
  );
const ggufFlags = fc.oneof({ weight: 9, arbitrary: plainFlags }, { weight: 1, arbitrary: flags });

/** Byte-level tokenizers, most of which a GGUF file can express. */
export const ggufByteLevel: fc.Arbitrary<ByteLevel> = fc
  .constantFrom("gpt-2", "llama", "qwen", "smollm", "other")
  .chain((kind) => {
    const pre_tokenizer: Record<string, object> = {
      "gpt-2": bytesWith,
      llama: inSequence(laterSplit(String.raw`\p{N}{1,3}`), bytesWithout),
      qwen: inSequence(laterSplit(String.raw`\p{N}`), bytesWithout),
      smollm: inSequence({ type: "Digits", individual_digits: true }, bytesWith),
      other: inSequence({ type: "Digits", individual_digits: false }, bytesWith),
    };
    const normalizer =
      kind === "qwen" ? mostly({ type: "NFC" }, null) : mostly(null, { type: "NFC" }, { type: "Lowercase" });
    const ignore_merges = mostly(kind === "llama", kind !== "llama") as fc.Arbitrary<boolean>;
    return byteLevelTokenizer({
      normalizer,
      pre_tokenizer: mostly(pre_tokenizer[kind], { ...bytesWith, add_prefix_space: true }),
      added: ggufFlags,
      ignore_merges,
    });
  });

/** Tokenizers in the style of SentencePiece, most of which a GGUF file can express. */
export const ggufSpaced: fc.Arbitrary<Spaced> = spacedTokenizer({
  unigram: mostly(false, true),
  bytes: mostly(true, false),
  normalizer: mostly(null, { type: "NFC" }),
  tokens: added(ggufFlags),
});
