// Reads files of llama2.c (github.com/karpathy/llama2.c), version 0, little-endian:
//
//   int32 × 7  width, feed-forward width, layers, heads, heads of keys and values, vocabulary, context length
//   f32        tensors in the order of `llama2cOrder`, each for all layers
//
// A negative vocabulary size means that the output projection is a tensor of its own. The two tables of rotary
// positions in the file are not used. Tensors have the names that Hugging Face gives the parameters of a Llama. Rotary
// positions rotate pairs of neighbouring dimensions.
import type { FileHandle } from "node:fs/promises";
import { mostLayers } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { numel } from "../core/shape.js";
import { F32File, type Place } from "./f32-file.js";
import { asBytes, opening, readFully } from "./whole-io.js";

/** Sizes of a model in the header of a llama2.c file. */
export interface Llama2cConfig {
  /** C, the width of the residual stream. */
  width: number;
  /** Width of the feed-forward layers. */
  feedForwardWidth: number;
  /** Number of layers. */
  layers: number;
  /** H, the number of query heads. */
  heads: number;
  /** Number of heads of keys and values, a divisor of `heads`. */
  kvHeads: number;
  /** V, the number of tokens in the vocabulary. */
  vocabularySize: number;
  /** Longest sequence in tokens. */
  contextLength: number;
  /** True if the token embedding is also the output projection. */
  tied: boolean;
}

/**
 * An open file of llama2.c. Close it, or declare it with `await using`.
 *
 * @example
 * const llama = new Llama({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16, feedForwardWidth: 64 });
 * await saveLlama2c("stories.bin", llama);
 * await using file = await readLlama2c("stories.bin");
 * const embedding = await file.readFloats("model.embed_tokens.weight"); // 256 · 16 numbers
 */
export class Llama2cFile extends F32File {
  /** @internal */
  constructor(
    path: string,
    /** Sizes of the model. */
    readonly config: Llama2cConfig,
    tensors: ReadonlyMap<string, Place>,
    handle: FileHandle,
  ) {
    super(path, tensors, handle);
  }
}

/** Returns true if a file beside a model is its tokenizer: llama2.c uses names such as tokenizer.bin and tok512.bin. */
export function isLlama2cTokenizer(name: string): boolean {
  return /^tok.*\.bin$/.test(name);
}

const headerBytes = 28;

/**
 * Opens a file of llama2.c, and checks that the sizes in its header are possible and match the length of the file.
 *
 * @example
 * const llama = new Llama({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16, feedForwardWidth: 64 });
 * await saveLlama2c("llama.bin", llama);
 * await using file = await readLlama2c("llama.bin");
 * const { layers, width } = file.config; // 2 and 16
 *
 * @throws ERR_IO if the file cannot be read; the message names it.
 * @throws ERR_FORMAT if the sizes are impossible or do not match the file's length; the message names the file.
 * @see https://github.com/karpathy/llama2.c
 */
export async function readLlama2c(path: string): Promise<Llama2cFile> {
  return opening(path, async (handle, size) => {
    if (size < headerBytes)
      throw new HeedError("ERR_FORMAT", `${path}: expected a header of ${headerBytes} bytes, got ${size}: truncated`);
    const header = new Int32Array(7);
    await readFully(handle, asBytes(header), 0, path);
    const config = configOf(header, path);
    return new Llama2cFile(path, config, placesOf(config, size, path), handle);
  });
}

function configOf(header: Int32Array, path: string): Llama2cConfig {
  const [width, hidden, layers, heads, kvHeads, vocabulary, contextLength] = Array.from(header) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const config = {
    width,
    feedForwardWidth: hidden,
    layers,
    heads,
    kvHeads,
    vocabularySize: Math.abs(vocabulary),
    contextLength,
  };
  for (const [name, value] of Object.entries(config))
    if (value < 1)
      throw new HeedError("ERR_FORMAT", `${path}: expected ${name} of at least 1, got ${value}: not a llama2.c model`);
  if (layers > mostLayers)
    throw new HeedError("ERR_FORMAT", `${path}: expected at most ${mostLayers} layers, got ${layers}`);
  if (width % heads !== 0 || heads % kvHeads !== 0 || (width / heads) % 2 !== 0)
    throw new HeedError(
      "ERR_FORMAT",
      `${path}: expected width to be a multiple of 2·heads and heads a multiple of kvHeads, got width ${width}, ` +
        `heads ${heads} and kvHeads ${kvHeads}`,
    );
  return { ...config, tied: vocabulary > 0 };
}

/**
 * Yields the name and shape of everything that follows the header, in the order of the file. The rotary tables have the
 * name null.
 */
export function* llama2cOrder(config: Llama2cConfig): Generator<{ name: string | null; shape: number[] }> {
  const { width, feedForwardWidth: hidden, layers, heads, kvHeads, vocabularySize, contextLength, tied } = config;
  const kvWidth = (width / heads) * kvHeads;
  const each = function* (name: string, shape: number[]) {
    for (let layer = 0; layer < layers; layer++) yield { name: `model.layers.${layer}.${name}.weight`, shape };
  };
  yield { name: "model.embed_tokens.weight", shape: [vocabularySize, width] };
  yield* each("input_layernorm", [width]);
  yield* each("self_attn.q_proj", [width, width]);
  yield* each("self_attn.k_proj", [kvWidth, width]);
  yield* each("self_attn.v_proj", [kvWidth, width]);
  yield* each("self_attn.o_proj", [width, width]);
  yield* each("post_attention_layernorm", [width]);
  yield* each("mlp.gate_proj", [hidden, width]);
  yield* each("mlp.down_proj", [width, hidden]);
  yield* each("mlp.up_proj", [hidden, width]);
  yield { name: "model.norm.weight", shape: [width] };
  // Tables of cosines and sines.
  yield { name: null, shape: [2, contextLength, width / heads / 2] };
  if (!tied) yield { name: "lm_head.weight", shape: [vocabularySize, width] };
}

/** Returns the position of each tensor. The file must end where the last tensor ends. */
function placesOf(config: Llama2cConfig, size: number, path: string): Map<string, Place> {
  const places = new Map<string, Place>();
  let at = headerBytes;
  for (const { name, shape } of llama2cOrder(config)) {
    if (name !== null) places.set(name, { dtype: "F32", shape, byteOffset: at });
    at += 4 * numel(shape);
  }
  if (at !== size)
    throw new HeedError(
      "ERR_FORMAT",
      `${path}: expected ${at} bytes for the sizes of the header, got a file of ${size}${at > size ? ": truncated" : ""}`,
    );
  return places;
}
