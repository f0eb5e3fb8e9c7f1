// generation_config.json: what whoever trained a model found best for its texts.
import path from "node:path";
import { describe, HeedError } from "../errors.js";
import { ifThere, inFile, readJsonFile } from "../files.js";

/** Options of `generate`, as the model came with them. */
export interface GenerationDefaults {
  /** Each of these ends a text. */
  stopTokens?: number[];
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
}

const names = {
  temperature: "temperature",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  repetitionPenalty: "repetition_penalty",
} as const;

/** What a folder's generation_config.json says; where it has none, the eos_token_id of its config.json. */
export async function folderDefaults(folder: string): Promise<GenerationDefaults> {
  const file = path.join(folder, "generation_config.json");
  const own = await ifThere(file, readJsonFile);
  if (own !== null) return inFile(file, () => fromGenerationConfig(own));
  const config = path.join(folder, "config.json");
  const { eos_token_id } = Object(await readJsonFile(config)) as { eos_token_id?: unknown };
  return inFile(config, () => fromGenerationConfig({ eos_token_id }));
}

/** Reads a generation_config.json. Throws ERR_FORMAT. */
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
  // A model that is not to be sampled from takes the likeliest token.
  const sampled = config.do_sample ?? true;
  if (typeof sampled !== "boolean")
    throw new HeedError("ERR_FORMAT", `generation config: expected do_sample true or false, got ${describe(sampled)}`);
  if (!sampled) defaults.temperature = 0;
  const { eos_token_id: end } = config;
  if (end !== undefined && end !== null) defaults.stopTokens = Array.isArray(end) ? end.map(tokenId) : [tokenId(end)];
  return defaults;
}

/** The generation_config.json of these defaults. */
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
  throw new HeedError("ERR_FORMAT", `generation config: expected eos_token_id of token ids, got ${describe(value)}`);
}
