// Fills the parameters of a model from a file of weights in any format. Options say how the names and layouts in the
// file differ from the model's. Before memory is allocated, the sizes in the configuration are compared with the file,
// so that a malformed configuration cannot exhaust the memory.
import { type BlockFormat, isBlockFormat } from "../core/block-formats.js";
import { HeedError } from "../util/errors.js";
import { PieceMemory, type StoredPiece, type WeightFile } from "../formats/weights.js";
import { type Room, within } from "../nn/init.js";
import type { Module } from "../nn/module.js";
import { WeightLayer } from "../nn/weight-layer.js";
import { type ActivationBits, checkQuantizeOptions, type QuantizeOptions } from "../ops/quantize.js";
import { formatShape, numel, sameShape, type Shape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { setPieces } from "../core/tensor-pieces.js";
import { CodeFile } from "./code-file.js";
import { rowsAreOutputs, setBlocks, setCodes, setQuantized, setTransposed } from "./fill-matrix.js";
import { halvesOf } from "./stored-dtype.js";

/** Tensors of published files that are not parameters: tables that heed computes. */
const computed = /(^|\.)(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|embeddings\.position_ids)$/;

/** Options of `loadWeights`: how the tensors of the file correspond to the parameters of the model. */
export interface LoadWeightsOptions {
  /**
   * Returns the name of a parameter in the file. If the file splits the parameter into several tensors, returns their
   * names, in the order in which they are joined along their first dimension.
   * @default the name of the parameter
   */
  nameInFile?: (parameter: string) => string | readonly string[];
  /**
   * Returns true if the file stores the parameter of this name, [in, out], as [out, in].
   * @default none is transposed
   */
  isTransposed?: (parameter: string) => boolean;
  /** Names of tensors in the file that the model does not use. Any other unused tensor is an error. @default [] */
  ignored?: readonly string[];
  /** Quantises, as they arrive, the weights that `Module.quantize` quantises. @default null */
  quantize?: QuantizeOptions | null;
  /** Bits to which products with quantised weights may round activations. @default 16 */
  activations?: ActivationBits | undefined;
  /**
   * Keeps weights that the file stores in blocks or codes as they are, where the layers can compute with them.
   * @default false
   */
  keepStored?: boolean;
  /**
   * Keeps the matrices of layers that the file stores in bf16 or f16 so, if the model computes in f32 on the CPU and has no
   * memory yet. They stand for the same numbers in half the bytes.
   * @default false
   */
  keepHalves?: boolean;
}

/**
 * Makes a model for inference and fills it from a file. `weights` returns how the tensors of the file correspond to the
 * model's parameters.
 *
 * Besides the finished model, this needs memory for a few pieces of a tensor, or for one whole tensor if it must be
 * transposed. A parameter has no memory before its numbers arrive, and a quantised weight is never stored as floats.
 *
 * @throws ERR_FORMAT if the file does not fit the model; the message names the file, and the model is disposed.
 */
export async function loadFrom<M extends Module>(
  file: WeightFile,
  make: () => M,
  weights: (model: M) => LoadWeightsOptions = () => ({}),
): Promise<{ model: M; ignored: string[] }> {
  const model = makeFor(file, make);
  try {
    const ignored = await loadWeights(model, file, weights(model));
    model.eval();
    return { model, ignored };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/**
 * Fills the parameters of a model from a file, one after another and in pieces. Returns the names of the tensors that
 * it ignored. All names and shapes are checked before anything is changed.
 *
 * @example
 * await savePretrained("gpt-weights", gpt);
 * await using weights = await readSafetensors("gpt-weights/model.safetensors");
 * const ignored = await loadWeights(gpt, weights); // []
 *
 * @throws ERR_FORMAT if a name or shape does not fit; the message names the file.
 */
export async function loadWeights(
  model: Module,
  file: WeightFile,
  options: LoadWeightsOptions = {},
): Promise<string[]> {
  const parameters = matched(model, file, options);
  const { ignored = [], quantize = null, keepStored = false, keepHalves = false, activations } = options;
  const memory = new PieceMemory();
  for (const { names, tensor, transposed, layer, coded } of parameters) {
    if (layer && coded) {
      await takeCodes(layer, coded, names, memory, { quantize, keepStored });
      continue;
    }
    const asStored = keepStored && !quantize;
    const stored = storedType(file, names);
    const format = layer && asStored && rowsAreOutputs(layer, transposed) ? formatOf(file, stored) : null;
    if (layer && format) {
      await setBlocks(layer, bytesOf(file, names, memory), format);
      continue;
    }
    const halves = layer && keepHalves && !quantize ? halvesOf(stored) : null;
    // On CUDA every product would widen the whole weight first.
    if (halves && tensor.dtype === "f32" && tensor.device.kind === "cpu") tensor.keepHalves(halves);
    const pieces = piecesOf(file, names, memory);
    if (layer && quantize) await setQuantized(layer, pieces, { transposed, ...quantize });
    else await (transposed ? setTransposed(tensor, pieces) : setPieces(tensor, pieces));
  }
  if (activations !== undefined) model.roundActivations(activations);
  const used = new Set(parameters.flatMap(({ names }) => names));
  return ignored.filter((name) => file.tensors.has(name) && !used.has(name));
}

/** A parameter and the tensors of the file from which it is filled. */
interface Matched {
  tensor: FloatTensor;
  names: string[];
  transposed: boolean;
  /** Layer whose weight is the parameter and can be quantised, if there is one. */
  layer: WeightLayer | undefined;
  /** File that has codes for the parameter; null if it has numbers. */
  coded: CodeFile | null;
}

/** Sets the weight of a layer from codes. They stay codes if they are to be kept, or are what `quantize` asks for. */
async function takeCodes(
  layer: WeightLayer,
  file: CodeFile,
  names: readonly string[],
  memory: PieceMemory,
  { quantize, keepStored }: Required<Pick<LoadWeightsOptions, "quantize" | "keepStored">>,
): Promise<void> {
  const { requiresGrad } = layer.weight;
  const { quantization } = file;
  const [codes, scales] = [file.readCodes(names, memory), file.readScales(names, memory)];
  await setCodes(layer, codes, scales, quantization);
  const { bits, groupSize } = quantize ? checkQuantizeOptions(quantize) : quantization;
  if (quantize ? bits === quantization.bits && groupSize === quantization.groupSize : keepStored) return;
  layer.dequantize();
  layer.weight.requiresGrad = requiresGrad;
  if (quantize) layer.quantize(quantize);
}

/**
 * Returns the model's parameters with the names of their tensors in the file.
 *
 * @throws ERR_FORMAT if a name or shape does not fit.
 */
function matched(
  model: Module,
  file: WeightFile,
  { nameInFile = (name) => name, isTransposed = () => false, ignored = [] }: LoadWeightsOptions,
): Matched[] {
  const layers = new Map<FloatTensor, WeightLayer>();
  for (const [, layer] of model.modules())
    if (layer instanceof WeightLayer && layer.quantizable) layers.set(layer.weight, layer);
  const parameters = [...model.namedParameters()].map(([name, tensor]) => {
    const names = [nameInFile(name)].flat();
    const layer = layers.get(tensor);
    const coded = layer && file instanceof CodeFile && names.every((part) => file.isCoded(part)) ? file : null;
    // Rows of codes are outputs.
    const transposed = layer && coded ? layer.layout === "io" : isTransposed(name);
    const shape = transposed ? [...tensor.shape].reverse() : tensor.shape;
    return { names, tensor, transposed, layer, coded, shape };
  });
  const used = new Set(parameters.flatMap(({ names }) => names));
  const needless = new Set(ignored);
  const fault = (message: string): HeedError => new HeedError("ERR_FORMAT", `${file.path}: ${message}`);
  const list = (names: string[]): string => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
  const missing = [...used].filter((name) => !file.tensors.has(name));
  if (missing.length > 0)
    throw fault(`expected a tensor for every parameter of the model, got none for ${list(missing)}`);
  const unknown = [...file.tensors.keys()].filter(
    (name) => !used.has(name) && !needless.has(name) && !computed.test(name),
  );
  if (unknown.length > 0) throw fault(`expected only the model's parameters, got ${list(unknown)}`);
  for (const { names, shape, coded } of parameters) {
    if (!coded && file instanceof CodeFile && names.some((name) => file.isCoded(name)))
      throw fault(`expected numbers in ${names.join(", ")}, got codes`);
    const given = joined(names.map((name) => file.tensors.get(name)!.shape));
    const fits = (expected: Shape): boolean => !!given && sameShape(given, coded?.storedShape(expected) ?? expected);
    if (!fits(shape) && !fits([1, ...shape]))
      throw fault(`expected ${names.join(", ")} of shape ${formatShape(shape)}, got ${shapesOf(file, names)}`);
  }
  return parameters;
}

/** Returns the type in which the file stores all of these tensors, or null if they differ. */
function storedType(file: WeightFile, names: readonly string[]): string | null {
  const [type, ...others] = new Set(names.map((name) => file.tensors.get(name)!.dtype));
  return type !== undefined && others.length === 0 ? type : null;
}

/** Returns the format of blocks that a type of a file names, or null if it names none that the file can read as bytes. */
function formatOf(file: WeightFile, type: string | null): BlockFormat | null {
  return file.readBytes && type !== null && isBlockFormat(type) ? type : null;
}

async function* bytesOf(file: WeightFile, names: readonly string[], memory: PieceMemory): AsyncGenerator<Uint8Array> {
  for (const name of names) yield* file.readBytes!(name, memory);
}

async function* piecesOf(file: WeightFile, names: readonly string[], memory: PieceMemory): AsyncGenerator<StoredPiece> {
  for (const name of names) yield* file.readStored?.(name, memory) ?? file.readPieces(name);
}

/** Returns the shape of tensors that are joined along their first dimension, or null if they do not fit. */
function joined(shapes: readonly Shape[]): Shape | null {
  const [first, ...others] = shapes as [Shape, ...Shape[]];
  if (others.length === 0) return first;
  if (others.some((shape) => shape.length === 0 || !sameShape(shape.slice(1), first.slice(1)))) return null;
  return [shapes.reduce((sum, shape) => sum + shape[0]!, 0), ...first.slice(1)];
}

function shapesOf(file: WeightFile, names: readonly string[]): string {
  return names.map((name) => formatShape(file.tensors.get(name)!.shape)).join(", ");
}

/**
 * Largest computed table that every model may have: 2^24 numbers (64 MiB), enough for 131,072 positions of heads of
 * size 128.
 */
const usualTable = 2 ** 24;

/**
 * Makes a model whose parameters are filled from a file later. The tensors of the file limit the memory that the model
 * may take, whatever its configuration says.
 *
 * @throws ERR_FORMAT if the configuration asks for a larger model; the message names the file.
 */
export function makeFor<M extends Module>(file: WeightFile, make: () => M): M {
  let numbers = 0;
  for (const { shape } of file.tensors.values()) numbers += numel(shape);
  // The limits have slack, because `loadWeights` can name a missing tensor only when the model exists.
  const [tensors, most] = [2 * file.tensors.size + 100, 2 * numbers + 2 ** 20];
  const room: Room = { file: file.path, tensors, numbers: most, computed: usualTable + numbers };
  return within(room, make);
}

/**
 * Checks that the file has tensors of these shapes, before a model as large as the configuration says is made.
 *
 * @throws ERR_FORMAT if a tensor is missing or has another shape; the message names the file.
 */
export function checkSizes(file: WeightFile, sizes: readonly [string, Shape][]): void {
  for (const [name, shape] of sizes) {
    const got = file.tensors.get(name)?.shape;
    // Rows of codes are outputs, also where a family's files have inputs as rows.
    const allowed =
      file instanceof CodeFile && file.isCoded(name)
        ? [shape, [...shape].reverse()].map((size) => file.storedShape(size))
        : [shape];
    if (!got || !allowed.some((size) => sameShape(got, size)))
      throw new HeedError(
        "ERR_FORMAT",
        `${file.path}: expected ${name} of shape ${formatShape(shape)}, got ${got ? formatShape(got) : "none"}`,
      );
  }
}
