// Reads and writes adapter_config.json, PEFT's description of an adapter.
import type { LoraSettings } from "../adapters/lora-options.js";
import { describe, HeedError } from "../errors.js";
import { booleanOf, expectEntry, numberOf, positiveInteger } from "./families/huggingface-config.js";

/** Contents of an adapter_config.json, as far as heed uses them. */
export interface PeftConfig {
  settings: LoraSettings;
  /** Path or name on the hub of the model that the adapter belongs to; null if the file does not say. */
  base: string | null;
}

/** Entries for which heed supports only the usual values, because others change what an adapter computes. */
const usual = { peft_type: "LORA", bias: "none", lora_bias: false, use_qalora: false } as const;

/** Entries that must be empty: they make layers differ from each other, or add parts that heed does not have. */
const empty = ["rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "target_parameters"];

/**
 * Returns the settings in an adapter_config.json.
 *
 * @throws ERR_FORMAT if an entry is malformed, or is one that heed does not support.
 */
export function fromPeftConfig(json: unknown): PeftConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new HeedError("ERR_FORMAT", `config: expected an object, got ${describe(json)}`);
  const config = json as Record<string, unknown>;
  if (config.peft_type === undefined)
    throw new HeedError("ERR_FORMAT", 'config: expected "peft_type" to be "LORA", got undefined');
  for (const [name, value] of Object.entries(usual)) expectEntry(config, name, value);
  for (const name of empty)
    if (Object.keys(config[name] ?? {}).length > 0)
      throw new HeedError("ERR_FORMAT", `config: expected ${name} to be empty, got ${JSON.stringify(config[name])}`);
  const { base_model_name_or_path: base = null } = config;
  if (base !== null && typeof base !== "string")
    throw new HeedError("ERR_FORMAT", `config: expected base_model_name_or_path to be a text, got ${describe(base)}`);
  const rank = positiveInteger({ r: 8, ...config }, "r");
  const settings = {
    rank,
    alpha: numberOf(config, "lora_alpha", 8),
    dropout: numberOf(config, "lora_dropout", 0),
    dora: booleanOf(config, "use_dora", false),
    rsLora: booleanOf(config, "use_rslora", false),
  };
  return { settings, base: base === "" ? null : base };
}

/** Returns the content of an adapter_config.json. `targets` are PEFT's names of the adapted layers. */
export function toPeftConfig(
  { settings, base }: PeftConfig,
  targets: readonly string[],
  fanInFanOut: boolean,
): Record<string, unknown> {
  const { rank, alpha, dropout, dora, rsLora } = settings;
  return {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: base,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    target_modules: targets,
    use_dora: dora,
    use_rslora: rsLora,
    fan_in_fan_out: fanInFanOut,
    bias: "none",
    init_lora_weights: true,
    modules_to_save: null,
    rank_pattern: {},
    alpha_pattern: {},
  };
}
