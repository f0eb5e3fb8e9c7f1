// Reads and writes sparse autoencoders in the layout of SAELens: cfg.json and sae_weights.safetensors.
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { describe, HeedError, oneOf } from "../../util/errors.js";
import { inFile, readJsonFile } from "../../util/files.js";
import { writeTextAtomic } from "../../formats/atomic-file.js";
import { readSafetensors, type SafetensorsFile, writeSafetensors } from "../../formats/safetensors.js";
import type { ModelOptions } from "../../models/model.js";
import { SparseAutoencoder, type SparseAutoencoderConfig } from "./sparse-autoencoder.js";

const configFile = "cfg.json";
const weightsFile = "sae_weights.safetensors";

/**
 * Saves a sparse autoencoder to a folder, as SAELens does: cfg.json and sae_weights.safetensors.
 *
 * @example
 * const sae = new SparseAutoencoder({ width: 8, features: 32 }, { seed: 1 });
 * await saveSparseAutoencoder("sae", sae);
 * const same = await loadSparseAutoencoder("sae");
 *
 * @throws ERR_IO if a file cannot be written.
 * @see https://github.com/decoderesearch/SAELens
 */
export async function saveSparseAutoencoder(folder: string, sae: SparseAutoencoder): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tensors = Object.entries(sae.stateDict()).map(([name, tensor]) => ({
    ...{ name, dtype: "F32" as const, shape: tensor.shape },
    data: () => tensor.data(),
  }));
  await writeSafetensors(path.join(folder, weightsFile), tensors);
  const { width, features, architecture, k, subtractsBias, hookName, modelName } = sae.config;
  const config = {
    architecture,
    d_in: width,
    d_sae: features,
    ...(architecture === "topk" ? { k, rescale_acts_by_decoder_norm: false } : {}),
    dtype: "float32",
    device: "cpu",
    apply_b_dec_to_input: subtractsBias,
    normalize_activations: "none",
    reshape_activations: hookName?.endsWith("hook_z") ? "hook_z" : "none",
    metadata: { model_name: modelName, hook_name: hookName },
  };
  await writeTextAtomic(path.join(folder, configFile), [`${JSON.stringify(config, null, 2)}\n`]);
}

/**
 * Loads a sparse autoencoder from a folder in the layout of SAELens, old or new: the architectures "standard", "topk" and
 * "jumprelu", for activations as they are.
 *
 * @example
 * await saveSparseAutoencoder("sae", new SparseAutoencoder({ width: 8, features: 32 }));
 * const sae = await loadSparseAutoencoder("sae");
 * sae.encode(x).shape; // [2, 32]
 *
 * @throws ERR_IO if a file cannot be read; ERR_FORMAT if it is damaged, or the autoencoder is of a kind that heed does not
 *   have.
 */
export async function loadSparseAutoencoder(
  folder: string,
  options: Pick<ModelOptions, "device"> = {},
): Promise<SparseAutoencoder> {
  const file = path.join(folder, configFile);
  const { config, rescales } = await inFile(file, async () => configFrom(file, await readJsonFile(file)));
  await using weights = await readSafetensors(path.join(folder, weightsFile));
  checkShapes(weights, config);
  const state: Record<string, { shape: readonly number[]; values: Float32Array }> = {};
  for (const [name, shape] of Object.entries(shapesOf(config)))
    state[name] = { shape, values: await weights.readFloats(name) };
  if (rescales) foldNorms(config, state);
  const sae = new SparseAutoencoder(config, options);
  for (const [name, tensor] of Object.entries(sae.stateDict())) tensor.set(state[name]!.values);
  return sae;
}

/** Returns the shapes of an autoencoder's tensors by name. */
function shapesOf({ width, features, architecture }: SparseAutoencoderConfig): Record<string, number[]> {
  const thresholds = architecture === "jumprelu" ? { threshold: [features] } : {};
  return { W_enc: [width, features], b_enc: [features], W_dec: [features, width], b_dec: [width], ...thresholds };
}

function checkShapes(weights: SafetensorsFile, config: SparseAutoencoderConfig): void {
  for (const [name, shape] of Object.entries(shapesOf(config))) {
    const found = weights.tensors.get(name)?.shape;
    if (String(found) === String(shape)) continue;
    throw new HeedError(
      "ERR_FORMAT",
      `${weights.path}: expected ${name} of shape [${shape.join(", ")}], got ${found ? `[${found.join(", ")}]` : "none"}`,
    );
  }
}

/** Fields of cfg.json that heed reads, of all versions. */
interface SaeLensConfig {
  architecture?: unknown;
  d_in?: unknown;
  d_sae?: unknown;
  k?: unknown;
  activation_fn?: unknown;
  activation_fn_str?: unknown;
  activation_fn_kwargs?: { k?: unknown } | null;
  apply_b_dec_to_input?: unknown;
  normalize_activations?: unknown;
  rescale_acts_by_decoder_norm?: unknown;
  finetuning_scaling_factor?: unknown;
  hook_name?: unknown;
  model_name?: unknown;
  metadata?: { hook_name?: unknown; model_name?: unknown } | null;
}

function configFrom(file: string, json: unknown): { config: SparseAutoencoderConfig; rescales: boolean } {
  const given = (typeof json === "object" && json !== null ? json : {}) as SaeLensConfig;
  const { metadata, activation_fn_kwargs: kwargs, d_in: width, d_sae: features } = given;
  const expect = <T>(name: string, value: unknown, choices: readonly T[]): T => {
    if (choices.includes(value as T)) return value as T;
    throw new HeedError("ERR_FORMAT", `${file}: expected ${name} to be ${oneOf(choices)}, got ${describe(value)}`);
  };
  const size = (name: string, value: unknown): number => {
    if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
    throw new HeedError("ERR_FORMAT", `${file}: expected ${name} to be a positive integer, got ${describe(value)}`);
  };
  const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
  const activation = given.activation_fn_str ?? given.activation_fn ?? "relu";
  // Older files call an autoencoder with the activation TopK "standard".
  const named = given.architecture ?? "standard";
  const kind = named === "standard" && activation === "topk" ? "topk" : named;
  const architecture = expect("architecture", kind, ["standard", "topk", "jumprelu"] as const);
  if (architecture !== "topk") expect("activation_fn", activation, ["relu"]);
  // "expected_average_only_in" is part of the weights of a finished autoencoder.
  expect("normalize_activations", given.normalize_activations ?? "none", ["none", "expected_average_only_in"]);
  expect("finetuning_scaling_factor", given.finetuning_scaling_factor ?? false, [false]);
  return {
    config: {
      width: size("d_in", width),
      features: size("d_sae", features),
      architecture,
      ...(architecture === "topk" ? { k: size("k", given.k ?? kwargs?.k) } : {}),
      subtractsBias: expect("apply_b_dec_to_input", given.apply_b_dec_to_input ?? true, [true, false]),
      hookName: text(metadata?.hook_name) ?? text(given.hook_name),
      modelName: text(metadata?.model_name) ?? text(given.model_name),
    },
    rescales: architecture === "topk" && given.rescale_acts_by_decoder_norm === true,
  };
}

/** Brings the decoder's rows to length 1, and their lengths into the encoder, which the option in the file stands for. */
function foldNorms(
  { width, features }: SparseAutoencoderConfig,
  state: Record<string, { values: Float32Array }>,
): void {
  const [encoder, decoder, bias] = [state.W_enc!.values, state.W_dec!.values, state.b_enc!.values];
  for (let feature = 0; feature < features; feature++) {
    const row = decoder.subarray(feature * width, (feature + 1) * width);
    const length = Math.hypot(...row) || 1;
    for (let c = 0; c < width; c++) {
      row[c]! /= length;
      encoder[c * features + feature]! *= length;
    }
    bias[feature]! *= length;
  }
}
