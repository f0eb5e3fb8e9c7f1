/** Small tokenizer.json files of each kind, whose encodings can be derived from the algorithms by hand. */

/** Returns GPT-2's character of a byte: written from the published rule, independently of the code under test. */
export function byteCharacter(byte: number): string {
  const printable = (b: number) => (b > 32 && b < 127) || (b > 160 && b < 256 && b !== 173);
  if (printable(byte)) return String.fromCharCode(byte);
  const before = Array.from({ length: byte }, (_, b) => b).filter((b) => !printable(b)).length;
  return String.fromCharCode(256 + before);
}

export const bytePieces = (text: string) => Array.from(Buffer.from(text), byteCharacter).join("");

const special = (id: number, content: string) => ({ id, content, special: true, normalized: false });

/** 256 bytes, then merges, then three special tokens and one that is not special. */
export const byteLevelMerges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ã ©"];
export function byteLevelJson() {
  const tokens = [
    ...Array.from({ length: 256 }, (_, byte) => byteCharacter(byte)),
    ...byteLevelMerges.map((merge) => merge.replace(" ", "")),
  ];
  const n = tokens.length;
  return {
    version: "1.0",
    added_tokens: [
      special(n, "<|begin|>"),
      special(n + 1, "<|end|>"),
      special(n + 2, "<|user|>"),
      { id: n + 3, content: "<tool>", special: false, normalized: false },
    ],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|begin|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<|begin|>": { id: "<|begin|>", ids: [n], tokens: ["<|begin|>"] } },
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: byteLevelMerges,
    },
  };
}

export const wordPieces = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "un",
  "##aff",
  "##able",
  "aff",
  "##a",
  "cafe",
  ".",
  "##s",
];
export function wordPieceJson() {
  return {
    version: "1.0",
    added_tokens: wordPieces.slice(0, 4).map((content, id) => special(id, content)),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: "[CLS]", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { SpecialToken: { id: "[SEP]", type_id: 0 } },
      ],
      pair: [],
      special_tokens: {},
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(wordPieces.map((token, id) => [token, id])),
    },
  };
}

/** Pieces and the logarithms of their probabilities. */
export const unigramPieces: [string, number][] = [
  ["<unk>", 0],
  ["<s>", 0],
  ["</s>", 0],
  ["\u2581", -3],
  ["\u2581a", -2],
  ["b", -2.5],
  ["ab", -1],
  ["a", -4],
  ["\u2581ab", -4],
  ["bc", -3],
  ["c", -2],
];
export function unigramJson(byteFallback = false) {
  const bytes: [string, number][] = Array.from({ length: 256 }, (_, byte) => [
    `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    -20,
  ]);
  return {
    version: "1.0",
    added_tokens: unigramPieces.slice(0, 3).map(([content], id) => special(id, content)),
    normalizer: null,
    pre_tokenizer: { type: "Metaspace", replacement: "\u2581", add_prefix_space: true, prepend_scheme: "always" },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      pair: [],
      special_tokens: {},
    },
    decoder: byteFallback
      ? {
          type: "Sequence",
          decoders: [
            { type: "Replace", pattern: { String: "\u2581" }, content: " " },
            { type: "ByteFallback" },
            { type: "Fuse" },
            { type: "Strip", content: " ", start: 1, stop: 0 },
          ],
        }
      : { type: "Metaspace", replacement: "\u2581", add_prefix_space: true, prepend_scheme: "always" },
    model: {
      type: "Unigram",
      unk_id: 0,
      byte_fallback: byteFallback,
      vocab: byteFallback ? [...unigramPieces, ...bytes] : unigramPieces,
    },
  };
}
