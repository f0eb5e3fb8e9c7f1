// Reads and writes adapter_config.json, PEFT's description of an adapter.
import type { LoraSettings } from "../adapters/lora-options.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { booleanOf, expectEntry, numberOf, positiveInteger } from "./families/huggingface-config.js";

/** Contents of an adapter_config.json, as far as heed uses them. */
export interface PeftConfig {
  settings: LoraSettings;
  /** Path or name on the hub of the model that the adapter belongs to; null if the file does not say. */
  base: string | null;
  /** PEFT's names of the layers that are saved whole beside the adapter. */
  modulesToSave: readonly string[];
}

/** Entries for which heed supports only the usual values, because others change what an adapter computes. */
const usual = { peft_type: "LORA", bias: "none", lora_bias: false, use_qalora: false } as const;

/** Entries that `fromPeftConfig` reads. */
const read = ["r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "init_lora_weights", "modules_to_save"];

/**
 * Entries that do not change what an adapter computes. Those for layers only say which tensors the file has, and those of
 * methods count only with the value of `init_lora_weights` that goes with them.
 */
const harmless: readonly string[] = [
  ...["task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"],
  ...["target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"],
  ...["loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying"],
  // These concern training alone.
  ...["velora_config", "runtime_config", "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr", "merge_weights"],
  // These are settings of entries that must be off.
  ...["megatron_core", "qalora_group_size"],
];

/** Initial values that leave the weights of the base model as they are. Others, such as those of PiSSA, change them. */
const plainInitializations: readonly string[] = ["gaussian", "eva", "orthogonal", "mica"];

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
  checkOthers(config);
  checkInitialization(config.init_lora_weights);
  const { base_model_name_or_path: base = null } = config;
  if (base !== null && typeof base !== "string")
    throw new HeedError("ERR_FORMAT", `config: expected base_model_name_or_path to be a text, got ${describe(base)}`);
  const modulesToSave: unknown = config.modules_to_save ?? [];
  if (!Array.isArray(modulesToSave) || !modulesToSave.every((name) => typeof name === "string"))
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected modules_to_save to be a list of names, got ${JSON.stringify(modulesToSave)}`,
    );
  const rank = positiveInteger({ r: 8, ...config }, "r");
  const settings = {
    rank,
    alpha: numberOf(config, "lora_alpha", 8),
    dropout: numberOf(config, "lora_dropout", 0),
    dora: booleanOf(config, "use_dora", false),
    rsLora: booleanOf(config, "use_rslora", false),
  };
  return { settings, base: base === "" ? null : base, modulesToSave };
}

/**
 * Checks that nothing else in an adapter_config.json changes what the adapter computes, whether heed knows it or not.
 *
 * @throws ERR_FORMAT if an entry is not empty.
 */
function checkOthers(config: Readonly<Record<string, unknown>>): void {
  const known = new Set([...Object.keys(usual), ...read, ...harmless]);
  for (const [name, value] of Object.entries(config)) {
    if (known.has(name) || value === null || value === false) continue;
    // An empty list of invocation tokens is not the same as none.
    if (typeof value === "object" && Object.keys(value).length === 0 && name !== "alora_invocation_tokens") continue;
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected ${name} to be empty, got ${JSON.stringify(value)}, which heed's adapters do not have`,
    );
  }
}

/**
 * Checks that an adapter is one of the base model as it is.
 *
 * @throws ERR_FORMAT if `init_lora_weights` is a method that has changed the base model's weights, or is unknown.
 */
function checkInitialization(given: unknown): void {
  if (given === undefined || given === null || typeof given === "boolean") return;
  if (typeof given === "string" && plainInitializations.includes(given.toLowerCase())) return;
  throw new HeedError(
    "ERR_FORMAT",
    `config: expected init_lora_weights to be true, false, ${oneOf(plainInitializations)}, which leave the base model as it is, got ${describe(given)}; convert the adapter to a plain LoRA with PEFT (save_pretrained with path_initial_model_for_weight_conversion) or merge it there`,
  );
}
/** Kind of task in an adapter_config.json; null for one that PEFT has no name for. */
export type PeftTask = "CAUSAL_LM" | "SEQ_CLS" | null;

/** Returns the content of an adapter_config.json. `targets` are PEFT's names of the adapted layers. */
export function toPeftConfig(
  { settings, base, modulesToSave }: PeftConfig,
  targets: readonly string[],
  { fanInFanOut, task }: { fanInFanOut: boolean; task: PeftTask },
): Record<string, unknown> {
  const { rank, alpha, dropout, dora, rsLora } = settings;
  return {
    peft_type: "LORA",
    task_type: task,
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
    modules_to_save: modulesToSave.length > 0 ? modulesToSave : null,
    rank_pattern: {},
    alpha_pattern: {},
  };
}
