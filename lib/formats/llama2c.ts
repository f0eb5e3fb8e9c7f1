// Files of llama2.c (github.com/karpathy/llama2.c), version 0: seven int32 (width, feed-forward width, layers,
// heads, heads of keys and values, vocabulary, context length; a vocabulary below 0 has an output projection of its
// own), then f32, each tensor for all layers, then two tables of rotary positions that are not needed. Little-endian.
// Tensors have Hugging Face's names for a Llama; rotary positions turn neighbouring pairs.
import type { FileHandle } from "node:fs/promises";
import { mostLayers } from "../check.js";
import { HeedError } from "../errors.js";
import { numel } from "../shape.js";
import { F32File, type Place } from "./f32-file.js";
import { asBytes, opening, readFully } from "./whole-io.js";

export interface Llama2cConfig {
  width: number;
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  vocabularySize: number;
  contextLength: number;
  /** Whether the token embedding is the output projection. */
  tied: boolean;
}

/** An open file. Close it, or declare it with `await using`. */
export class Llama2cFile extends F32File {
  /** @internal */
  constructor(
    path: string,
    readonly config: Llama2cConfig,
    tensors: ReadonlyMap<string, Place>,
    handle: FileHandle,
  ) {
    super(path, tensors, handle);
  }
}

/** Whether a file beside a model's is its tokenizer: tokenizer.bin and tok512.bin are names that llama2.c gives. */
export function isLlama2cTokenizer(name: string): boolean {
  return /^tok.*\.bin$/.test(name);
}

const headerBytes = 28;

/** Opens a file and checks its sizes. Throws ERR_IO or ERR_FORMAT with the file's name. */
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
  const config = { width, hidden, layers, heads, kvHeads, vocabularySize: Math.abs(vocabulary), contextLength };
  for (const [name, value] of Object.entries(config))
    if (value < 1)
      throw new HeedError("ERR_FORMAT", `${path}: expected ${name} of at least 1, got ${value}: not a llama2.c model`);
  if (layers > mostLayers)
    throw new HeedError("ERR_FORMAT", `${path}: expected at most ${mostLayers} layers, got ${layers}`);
  if (width % heads !== 0 || heads % kvHeads !== 0 || (width / heads) % 2 !== 0)
    throw new HeedError(
      "ERR_FORMAT",
      `${path}: expected width in heads of an even size, and these in groups, got ${width}, ${heads} and ${kvHeads}`,
    );
  return { ...config, tied: vocabulary > 0 };
}

/** What a file holds, in its order: tensors, and the rotary tables, which have no name. */
export function* llama2cOrder(config: Llama2cConfig): Generator<{ name: string | null; shape: number[] }> {
  const { width, hidden, layers, heads, kvHeads, vocabularySize, contextLength, tied } = config;
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
  // Cosines and sines.
  yield { name: null, shape: [2, contextLength, width / heads / 2] };
  if (!tied) yield { name: "lm_head.weight", shape: [vocabularySize, width] };
}

/** Where each tensor is; the file must end with the last. */
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
