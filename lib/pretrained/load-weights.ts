import { HeedError } from "../errors.js";
import { PieceMemory, type StoredPiece, type WeightFile } from "../formats/weights.js";
import { type Room, within } from "../nn/init.js";
import type { Module } from "../nn/module.js";
import { WeightLayer } from "../nn/weight-layer.js";
import type { QuantizeOptions } from "../ops/quantize.js";
import { formatShape, numel, sameShape, type Shape } from "../shape.js";
import type { FloatTensor } from "../tensor.js";
import { setPieces } from "../tensor-pieces.js";
import { setQuantized, setTransposed } from "./fill-matrix.js";

/** Tensors of published files that are no parameters: tables that are computed. */
const computed = /(^|\.)(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|embeddings\.position_ids)$/;

export interface LoadWeightsOptions {
  /**
   * What the file calls a parameter; the parameter's own name unless given. Where the file has it in several tensors:
   * their names, in the order in which they are joined along their first dimension.
   */
  nameInFile?: (parameter: string) => string | readonly string[];
  /** Tells whether the file stores the model's [in, out] matrix of this name as [out, in]. By default none is. */
  isTransposed?: (parameter: string) => boolean;
  /** Names of the file that the model has no use for. */
  ignored?: readonly string[];
  /** Puts the weights that `Module.quantize` does into few bits as they arrive. By default none. */
  quantize?: QuantizeOptions | null;
}

/**
 * Makes a model and fills it from a file, for inference; `weights` says how the file's tensors are the model's
 * parameters. Throws ERR_FORMAT, naming the file, and leaves nothing of the model then.
 *
 * Beside what the model is in the end, it takes the memory of some pieces of a tensor, or of one tensor where that has to
 * be turned: parameters have no memory before their numbers arrive, nor those that are quantised as floats.
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
 * Fills a model's parameters from a file, one at a time and in pieces, and resolves to the names of those it ignored.
 * Names and shapes must fit; nothing is changed if one does not. Throws ERR_FORMAT, naming the file.
 */
export async function loadWeights(
  model: Module,
  file: WeightFile,
  options: LoadWeightsOptions = {},
): Promise<string[]> {
  const parameters = matched(model, file, options);
  const { ignored = [], quantize = null } = options;
  const layers = new Map<FloatTensor, WeightLayer>();
  if (quantize)
    for (const [, layer] of model.modules())
      if (layer instanceof WeightLayer && layer.quantizable) layers.set(layer.weight, layer);
  const memory = new PieceMemory();
  for (const { names, tensor, transposed } of parameters) {
    const pieces = piecesOf(file, names, memory);
    const layer = layers.get(tensor);
    if (layer) await setQuantized(layer, pieces, { transposed, ...quantize });
    else await (transposed ? setTransposed(tensor, pieces) : setPieces(tensor, pieces));
  }
  const used = new Set(parameters.flatMap(({ names }) => names));
  return ignored.filter((name) => file.tensors.has(name) && !used.has(name));
}

/** A parameter and the tensors of the file that it comes from. */
interface Matched {
  tensor: FloatTensor;
  names: string[];
  transposed: boolean;
}

/** The model's parameters with what the file has for each. Throws ERR_FORMAT where names or shapes do not fit. */
function matched(
  model: Module,
  file: WeightFile,
  { nameInFile = (name) => name, isTransposed = () => false, ignored = [] }: LoadWeightsOptions,
): Matched[] {
  const parameters = [...model.namedParameters()].map(([name, tensor]) => {
    const transposed = isTransposed(name);
    const shape = transposed ? [...tensor.shape].reverse() : tensor.shape;
    return { names: [nameInFile(name)].flat(), tensor, transposed, shape };
  });
  const used = new Set(parameters.flatMap(({ names }) => names));
  const needless = new Set(ignored);
  const fault = (message: string): HeedError => new HeedError("ERR_FORMAT", `${file.path}: ${message}`);
  const list = (names: string[]): string => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
  const missing = [...used].filter((name) => !file.tensors.has(name));
  if (missing.length > 0) throw fault(`expected the model's parameters, got no ${list(missing)}`);
  const unknown = [...file.tensors.keys()].filter(
    (name) => !used.has(name) && !needless.has(name) && !computed.test(name),
  );
  if (unknown.length > 0) throw fault(`expected the model's parameters alone, got ${list(unknown)}`);
  for (const { names, shape } of parameters) {
    const given = joined(names.map((name) => file.tensors.get(name)!.shape));
    if (!given || !(sameShape(given, shape) || sameShape(given, [1, ...shape])))
      throw fault(`expected ${names.join(", ")} of shape ${formatShape(shape)}, got ${shapesOf(file, names)}`);
  }
  return parameters;
}

async function* piecesOf(file: WeightFile, names: readonly string[], memory: PieceMemory): AsyncGenerator<StoredPiece> {
  for (const name of names) yield* file.readStored?.(name, memory) ?? file.readPieces(name);
}

/** The shape of tensors joined along their first dimension; null where they do not fit. */
function joined(shapes: readonly Shape[]): Shape | null {
  const [first, ...others] = shapes as [Shape, ...Shape[]];
  if (others.length === 0) return first;
  if (others.some((shape) => shape.length === 0 || !sameShape(shape.slice(1), first.slice(1)))) return null;
  return [shapes.reduce((sum, shape) => sum + shape[0]!, 0), ...first.slice(1)];
}

function shapesOf(file: WeightFile, names: readonly string[]): string {
  return names.map((name) => formatShape(file.tensors.get(name)!.shape)).join(", ");
}

/** Numbers of a computed table that any model may have: 64 MiB, of 131,072 positions in heads of 128. */
const usualTable = 2 ** 24;

/**
 * Makes a model whose parameters are to come from a file: the memory it takes follows from the file's tensors, whatever
 * its configuration says. Throws ERR_FORMAT, naming the file.
 */
export function makeFor<M extends Module>(file: WeightFile, make: () => M): M {
  let numbers = 0;
  for (const { shape } of file.tensors.values()) numbers += numel(shape);
  // The slack lets `loadWeights` name a missing tensor, which it can only do once the model exists.
  const [tensors, most] = [2 * file.tensors.size + 100, 2 * numbers + 2 ** 20];
  const room: Room = { file: file.path, tensors, numbers: most, computed: usualTable + numbers };
  return within(room, make);
}

/** Before a model as large as the configuration says is made: whether the file has one of that size. */
export function checkSizes(file: WeightFile, sizes: readonly [string, Shape][]): void {
  for (const [name, shape] of sizes) {
    const got = file.tensors.get(name)?.shape;
    if (!got || !sameShape(got, shape))
      throw new HeedError(
        "ERR_FORMAT",
        `${file.path}: expected ${name} of shape ${formatShape(shape)}, got ${got ? formatShape(got) : "none"}`,
      );
  }
}
