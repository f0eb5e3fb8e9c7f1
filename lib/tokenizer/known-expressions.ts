// Regular expressions of well-known tokenizers. JavaScript's own engine may search for them, since it takes linear time
// for each of them: if one alternative scans a run of characters in vain, the next alternative matches the whole run.
const apostrophes = "'s|'t|'re|'ve|'m|'ll|'d";
const anyCase = `(?i:${apostrophes})`;
const spaces = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const before = String.raw`[^\r\n\p{L}\p{N}]?`;

const sources: readonly string[] = [
  // GPT-2, RoBERTa, BLOOM, StarCoder and similar models
  String.raw`${apostrophes}| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  // CLIP
  String.raw`${apostrophes}|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`,
  // GPT-4 (cl100k), Llama 3, GLM 4, Phi 4, OLMo 2, Granite
  String.raw`${anyCase}|${before}\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`,
  String.raw`'(?i:[sdmt]|ll|ve|re)|${before}\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`,
  // Qwen 2, 2.5 and 3; Qwen 3.5
  String.raw`${anyCase}|${before}\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`,
  String.raw`${anyCase}|${before}[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|${spaces}`,
  // GPT-4o (o200k), gpt-oss, Llama 4
  String.raw`${before}${upper}*${lower}+${anyCase}?|${before}${upper}+${lower}*${anyCase}?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${spaces}`,
  // Mistral (Tekken)
  String.raw`${before}${upper}*${lower}+|${before}${upper}+${lower}*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${spaces}`,
  // DeepSeek V3 and R1
  String.raw`\p{N}{1,3}`,
  "[一-龥\u3040-ゟ゠-ヿ]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" +
    String.raw`|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|${spaces}`,
  // DeepSeek Coder
  String.raw`[\r\n]`,
  String.raw`\s?\p{L}+`,
  String.raw`\s?\p{P}+`,
  "[一-龥ࠀ-一가-\ud7ff]+",
  String.raw`\p{N}`,
  // BLOOM, Falcon
  String.raw` ?[^(\s|[.,!?…。，、।۔،])]+`,
  "[0-9][0-9][0-9]",
  // Normalizers of CLIP, T5, ALBERT, XLNet and XLM-RoBERTa
  String.raw`\s+`,
  " {2,}",
];

const known: ReadonlySet<string> = new Set(sources);

/** Returns true if JavaScript's engine is known to search for this expression in linear time. */
export function isKnownExpression(source: string): boolean {
  return known.has(source);
}
