import { describe, HeedError } from "../../errors.js";
import {
  type GgufInputValue,
  type GgufTensorInput,
  ggufWritable,
  type GgufWritable,
  writeGguf,
} from "../../formats/write-gguf.js";
import type { GPT } from "../../models/gpt.js";
import type { Llama } from "../../models/llama.js";
import type { Module } from "../../nn/module.js";
import { transposed } from "../../ops/views.js";
import type { FloatTensor } from "../../tensor.js";
import { readPieces } from "../../tensor-pieces.js";
import { inPieces, joined } from "../../turns.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { toHuggingFaceTokenizer } from "../to-huggingface-tokenizer.js";
import type { GgufOutput } from "./architecture.js";
import type { GenerationDefaults } from "../generation-config.js";
import { checkSavable } from "../families/saving.js";
import { defaultsToGguf } from "./defaults.js";
import { architectures } from "./index.js";
import { tokenizerToGguf } from "./write-tokenizer.js";

export interface SaveGgufOptions {
  tokenizer?: Tokenizer | null;
  /** How the model is best used: up to three tokens that end a text, and options of sampling. */
  defaults?: GenerationDefaults;
  /** Of the matrices; F32 unless given. Vectors are F32, and rows that do not fill blocks F16. */
  type?: GgufWritable;
  /** Shown to those who use the file. */
  name?: string;
  /** Called after each tensor. */
  onProgress?: (done: number, all: number) => void;
}

/**
 * Writes a model, and its tokenizer, as a GGUF file that llama.cpp reads. Throws ERR_ARGUMENT where the format has no
 * place for an option of the model or for the tokenizer, ERR_IO where the file cannot be written.
 */
export async function saveGguf(path: string, model: Module, options: SaveGgufOptions = {}): Promise<void> {
  const { tokenizer = null, defaults = {}, type = "F32", name, onProgress } = options;
  const architecture = architectures.find((candidate) => candidate.owns(model));
  if (!architecture) throw new HeedError("ERR_ARGUMENT", `saveGguf: expected a GPT or a Llama, got ${describe(model)}`);
  if (!ggufWritable.includes(type))
    throw new HeedError("ERR_ARGUMENT", `saveGguf: expected type ${ggufWritable.join(", ")}, got ${describe(type)}`);
  checkSavable("saveGguf", model);
  const output = architecture.write(model);
  const { vocabularySize } = (model as GPT | Llama).config;
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
    return { name, shape, type: typeFor(shape, type), data: () => valuesOf(output, parameter, tensor, isTransposed) };
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
        onProgress?.(i + 1, all.length);
      },
    })),
  );
}

interface Input extends GgufTensorInput {
  readonly data: () => AsyncIterable<Float32Array>;
}

/** llama.cpp's numbers for what most of a file is. */
const fileTypes: Record<GgufWritable, number> = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 7, BF16: 32 };

/** Without it llama.cpp loads no model. */
const noTokenizer = [["tokenizer.ggml.model", { type: "string", value: "no_vocab" }]] as const;

/** A parameter's numbers as the file has them. The device turns a matrix. */
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

function typeFor(shape: readonly number[], type: GgufWritable): GgufWritable {
  if (shape.length < 2) return "F32";
  return type.startsWith("Q") && shape.at(-1)! % 32 !== 0 ? "F16" : type;
}
