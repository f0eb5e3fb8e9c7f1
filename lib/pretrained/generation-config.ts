// Reads and writes generation_config.json: the generation options that the authors of a model recommend.
import path from "node:path";
import { describe, HeedError } from "../util/errors.js";
import { ifThere, inFile, readJsonFile } from "../util/files.js";

/** Generation options that came with a model; see `generate`. */
export interface GenerationDefaults {
  /** Tokens that end a text. */
  stopTokens?: number[];
  /** Divisor of the logits before sampling; 0 chooses the likeliest token. */
  temperature?: number;
  /** Number of likeliest tokens to sample from; 0 is off. */
  topK?: number;
  /** Samples from the likeliest tokens that together have this probability; 1 is off. */
  topP?: number;
  /** Samples from tokens that are at least this share as likely as the likeliest; 0 is off. */
  minP?: number;
  /** Samples from the most typical tokens that together have this probability; 1 is off. */
  typicalP?: number;
  /** Penalty of the logits of tokens that have occurred before; 1 is off. */
  repetitionPenalty?: number;
}

const names = {
  temperature: "temperature",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  typicalP: "typical_p",
  repetitionPenalty: "repetition_penalty",
} as const;

/**
 * Returns the options in a folder's generation_config.json. If there is none, returns the eos_token_id of its
 * config.json as the stop token.
 *
 * @throws ERR_IO or ERR_FORMAT if a file cannot be read or has an option of a wrong type; the message names the file.
 */
export async function folderDefaults(folder: string): Promise<GenerationDefaults> {
  const file = path.join(folder, "generation_config.json");
  const own = await ifThere(file, readJsonFile);
  if (own !== null) return inFile(file, () => fromGenerationConfig(own));
  const config = path.join(folder, "config.json");
  const { eos_token_id } = Object(await readJsonFile(config)) as { eos_token_id?: unknown };
  return inFile(config, () => fromGenerationConfig({ eos_token_id }));
}

/**
 * Returns the options in the content of a generation_config.json.
 *
 * @throws ERR_FORMAT if an option has a wrong type.
 */
export function fromGenerationConfig(json: unknown): GenerationDefaults {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new HeedError("ERR_FORMAT", `generation config: expected an object, got ${describe(json)}`);
  const config = json as Record<string, unknown>;
  const defaults: GenerationDefaults = {};
  for (const [ours, theirs] of Object.entries(names) as [keyof typeof names, string][]) {
    const value = config[theirs];
    if (value === undefined || value === null) continue;
    if (!Number.isFinite(value))
      throw new HeedError("ERR_FORMAT", `generation config: expected ${theirs} to be a number, got ${describe(value)}`);
    defaults[ours] = value as number;
  }
  // Without sampling, the model chooses the likeliest token.
  const sampled = config.do_sample ?? true;
  if (typeof sampled !== "boolean")
    throw new HeedError(
      "ERR_FORMAT",
      `generation config: expected do_sample to be true or false, got ${describe(sampled)}`,
    );
  if (!sampled) defaults.temperature = 0;
  const { eos_token_id: end } = config;
  if (end !== undefined && end !== null) defaults.stopTokens = Array.isArray(end) ? end.map(tokenId) : [tokenId(end)];
  return defaults;
}

/** Returns the content of a generation_config.json with these options. */
export function toGenerationConfig(defaults: GenerationDefaults): Record<string, unknown> {
  const { stopTokens = [], temperature } = defaults;
  const given = (Object.entries(names) as [keyof typeof names, string][]).flatMap(([ours, theirs]) =>
    defaults[ours] === undefined || (ours === "temperature" && temperature === 0) ? [] : [[theirs, defaults[ours]]],
  );
  return {
    ...(temperature !== undefined && { do_sample: temperature > 0 }),
    ...(Object.fromEntries(given) as Record<string, number>),
    ...(stopTokens.length > 0 && { eos_token_id: stopTokens.length === 1 ? stopTokens[0] : stopTokens }),
  };
}

function tokenId(value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new HeedError(
    "ERR_FORMAT",
    `generation config: expected eos_token_id to be one or more token ids, got ${describe(value)}`,
  );
}
