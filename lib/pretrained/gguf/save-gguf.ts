// Saves a model, its tokenizer and its generation options as a GGUF file. Matrices may be stored in 16 bits or in blocks
// of 8 to 4 bits.
import { describe, HeedError, oneOf } from "../../util/errors.js";
import {
  type GgufInputValue,
  type GgufTensorInput,
  ggufWritable,
  type GgufWritable,
  writeGguf,
} from "../../formats/write-gguf.js";
import { blockFormats, isBlockFormat } from "../../core/block-formats.js";
import type { Module } from "../../nn/module.js";
import { transposed } from "../../ops/views.js";
import type { FloatTensor } from "../../core/tensor.js";
import { readPieces } from "../../core/tensor-pieces.js";
import { inPieces, joined } from "../../util/turns.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { toHuggingFaceTokenizer } from "../../tokenizer/to-huggingface-tokenizer.js";
import type { GgufOutput } from "./architecture.js";
import type { GenerationDefaults } from "../generation-config.js";
import { checkSavable } from "../families/saving.js";
import { defaultsToGguf } from "./defaults.js";
import { architectures } from "./index.js";
import { tokenizerToGguf } from "./write-tokenizer.js";
import type { InputImportance } from "../input-importance.js";
import type { SaveProgress } from "../save-progress.js";

/** Options of `saveGguf`. */
export interface SaveGgufOptions {
  /** Tokenizer to save in the file. @default null */
  tokenizer?: Tokenizer | null;
  /**
   * Generation options to save in the file: up to three tokens that end a text, and options of sampling.
   * @default {}
   */
  defaults?: GenerationDefaults;
  /**
   * Type of the matrices. Vectors are stored in F32, and so are tables of positions if
   * the type has blocks. With Q4_K or Q5_K, token embeddings and the projection to logits are
   * stored in Q6_K. Matrices whose rows do not fill blocks of 256 are stored in Q8_0, or if they do not fill blocks of 32,
   * in F16; see `onFallback`.
   * @default "F32"
   */
  type?: GgufWritable;
  /** Called before the file is written, for each matrix whose rows do not fill the blocks of `type`. */
  onFallback?: (fallback: GgufFallback) => void;
  /**
   * Importance of the inputs of matrices, as `inputImportance` measures it: the errors of important inputs count more
   * when scales are chosen. Matrices that it does not name are stored as without it.
   * @default none
   */
  importance?: InputImportance;
  /** Name of the model for people who use the file. */
  name?: string;
  /** Called after each tensor. */
  onProgress?: (progress: SaveProgress) => void;
}

/** A matrix that `saveGguf` stores in another type than the one requested. */
export interface GgufFallback {
  /** Name of the matrix in the file. */
  readonly name: string;
  /** Shape of the matrix in the file: rows, and numbers in a row. */
  readonly shape: readonly number[];
  /** Type in which the matrix is stored. */
  readonly type: GgufWritable;
}

/**
 * Saves a GPT or a Llama, and its tokenizer, as a GGUF file that llama.cpp reads.
 *
 * @example
 * await saveGguf("gpt-q4.gguf", gpt, { tokenizer, type: "Q4_0", name: "whale" });
 *
 * @throws ERR_ARGUMENT if the format cannot express an option of the model or the tokenizer, or the model is quantised.
 * @throws ERR_IO if the file cannot be written; an old file then stays unchanged.
 */
export async function saveGguf(path: string, model: Module, options: SaveGgufOptions = {}): Promise<void> {
  const { tokenizer = null, defaults = {}, type = "F32", importance, name, onFallback, onProgress } = options;
  const architecture = architectures.find((candidate) => candidate.owns(model));
  if (!architecture?.owns(model))
    throw new HeedError("ERR_ARGUMENT", `saveGguf: expected a GPT or a Llama, got ${describe(model)}`);
  if (!ggufWritable.includes(type))
    throw new HeedError("ERR_ARGUMENT", `saveGguf: expected type to be ${oneOf(ggufWritable)}, got ${describe(type)}`);
  if (importance !== undefined && typeof (importance as InputImportance | null)?.get !== "function")
    throw new HeedError("ERR_ARGUMENT", `saveGguf: expected importance to be a Map, got ${describe(importance)}`);
  checkSavable("saveGguf", model);
  const output = architecture.write(model);
  const { vocabularySize } = model.config;
  const metadata = new Map<string, GgufInputValue>([
    ["general.architecture", { type: "string", value: output.architecture }],
    ...(name === undefined ? [] : [["general.name", { type: "string", value: name }] as const]),
    ["general.file_type", { type: "u32", value: fileTypes[type] }],
    ...[...output.metadata].map(([key, value]) => [`${output.architecture}.${key}`, value] as const),
    ...(tokenizer ? tokenizerToGguf(toHuggingFaceTokenizer(tokenizer), vocabularySize) : noTokenizer),
    ...defaultsToGguf(defaults, tokenizer?.endOfText ?? null),
  ]);
  const parameters = [...model.namedParameters()].map(([parameter, tensor]): Input => {
    const { name, transposed: isTransposed = false } = architecture.parameter(parameter);
    const shape = isTransposed ? [...tensor.shape].reverse() : tensor.shape;
    const stored = typeFor(name, shape, type);
    if (stored !== "F32" && !fillsBlocks(shape, type)) onFallback?.({ name, shape, type: stored });
    return {
      ...{ name, shape, type: stored, importance: importance?.get(parameter) ?? null },
      data: () => valuesOf(output, parameter, tensor, isTransposed),
    };
  });
  const extra = (output.tensors ?? []).map(({ name, values }): Input => {
    return { name, shape: [values.length], type: "F32", data: () => inPieces(values) };
  });
  const all = [...parameters, ...extra];
  await writeGguf(
    path,
    metadata,
    all.map(({ data, ...input }, i) => ({
      ...input,
      data: async function* () {
        yield* data();
        onProgress?.({ written: i + 1, total: all.length });
      },
    })),
  );
}

interface Input extends GgufTensorInput {
  readonly data: () => AsyncIterable<Float32Array>;
}

/** llama.cpp's number for the type of most tensors in a file. */
const fileTypes: Record<GgufWritable, number> = {
  ...{ F32: 0, F16: 1, Q4_0: 2, Q8_0: 7, Q4_K: 15, Q5_K: 17, Q6_K: 18, BF16: 32 },
};

/** Metadata of a file without a tokenizer; llama.cpp requires it. */
const noTokenizer = [["tokenizer.ggml.model", { type: "string", value: "no_vocab" }]] as const;

/** Yields the numbers of a parameter as they are stored in the file. The device transposes a matrix. */
async function* valuesOf(
  output: GgufOutput,
  parameter: string,
  tensor: FloatTensor,
  isTransposed: boolean,
): AsyncGenerator<Float32Array> {
  if (output.values) {
    const whole = await joined(readPieces(tensor), tensor.size);
    yield* inPieces(output.values(parameter, whole));
    return;
  }
  using view = isTransposed ? transposed(tensor) : tensor.alias();
  yield* readPieces(view);
}

/** Tensors that llama.cpp, too, keeps in Q6_K among matrices of 4 or 5 bits: their errors matter most. */
const inMoreBits = new Set(["token_embd.weight", "output.weight"]);

function typeFor(name: string, shape: readonly number[], type: GgufWritable): GgufWritable {
  if (shape.length < 2) return "F32";
  if (name === "position_embd.weight" && isBlockFormat(type)) return "F32";
  if (!fillsBlocks(shape, type)) return fillsBlocks(shape, "Q8_0") ? "Q8_0" : "F16";
  return inMoreBits.has(name) && (type === "Q4_K" || type === "Q5_K") ? "Q6_K" : type;
}

/** Returns true if the rows of a tensor are whole blocks of a type. If the type has no blocks, all rows are. */
function fillsBlocks(shape: readonly number[], type: GgufWritable): boolean {
  return !isBlockFormat(type) || shape.at(-1)! % blockFormats[type].numbers === 0;
}
