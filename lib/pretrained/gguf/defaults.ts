// Reads and writes generation options in the metadata of a GGUF file: the tokens that end a text, and options of
// sampling.
import { HeedError } from "../../util/errors.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import { isId } from "../../tokenizer/added-tokens.js";
import type { GenerationDefaults } from "../generation-config.js";
import type { GgufMetadata } from "./metadata.js";

/**
 * Keys of the tokens that end a text, a turn in a conversation, and a message in a turn. Each of them ends a
 * generation.
 */
const ends = ["eos", "eot", "eom"].map((name) => `tokenizer.ggml.${name}_token_id`);

const sampling = {
  temperature: "general.sampling.temp",
  topK: "general.sampling.top_k",
  topP: "general.sampling.top_p",
  minP: "general.sampling.min_p",
  repetitionPenalty: "general.sampling.penalty_repeat",
} as const;
type Option = keyof typeof sampling;
/** Key of the number of latest tokens among which repetitions are penalised; −1 means all of them. */
const penalized = "general.sampling.penalty_last_n";

/**
 * Returns the generation options in the metadata.
 *
 * @throws ERR_FORMAT if a value has a wrong type.
 */
export function defaultsOfGguf(metadata: GgufMetadata): GenerationDefaults {
  const { values } = metadata;
  const stopTokens = new Set<number>();
  for (const key of ends) {
    const id = values.get(key);
    if (id === undefined) continue;
    if (!isId(id)) throw metadata.fault(key, "a token's id", id);
    stopTokens.add(id);
  }
  const defaults: GenerationDefaults = stopTokens.size > 0 ? { stopTokens: [...stopTokens] } : {};
  for (const [option, key] of Object.entries(sampling) as [Option, string][]) {
    const value = values.get(key);
    if (value === undefined) continue;
    if (typeof value !== "number" || !Number.isFinite(value)) throw metadata.fault(key, "a number", value);
    defaults[option] = shortest(value);
  }
  return defaults;
}

/**
 * Returns the metadata of these options. The tokenizer's end of text is always one of the tokens that end a text.
 *
 * @throws ERR_ARGUMENT if more tokens end a text than GGUF has keys for.
 */
export function defaultsToGguf(defaults: GenerationDefaults, endOfText: number | null): Map<string, GgufInputValue> {
  const stops = [...new Set([...(endOfText === null ? [] : [endOfText]), ...(defaults.stopTokens ?? [])])];
  if (stops.length > ends.length)
    throw new HeedError(
      "ERR_ARGUMENT",
      `gguf: expected at most ${ends.length} tokens that end a text, including the tokenizer's own, got ${stops.join(", ")}`,
    );
  const metadata = new Map(stops.map((value, i): [string, GgufInputValue] => [ends[i]!, { type: "u32", value }]));
  for (const [option, key] of Object.entries(sampling) as [Option, string][]) {
    const value = defaults[option];
    if (value !== undefined) metadata.set(key, { type: option === "topK" ? "i32" : "f32", value });
  }
  if (defaults.repetitionPenalty !== undefined) metadata.set(penalized, { type: "i32", value: -1 });
  return metadata;
}

/** Returns the shortest decimal number that rounds to this f32: the number that was originally written. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === Math.fround(value)) return rounded;
  }
  return value;
}
