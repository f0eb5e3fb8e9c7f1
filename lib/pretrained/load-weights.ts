import { HeedError } from "../errors.js";
import type { WeightFile } from "../formats/weights.js";
import type { Module } from "../nn/module.js";
import { formatShape, sameShape, type Shape } from "../shape.js";

/** Tensors of checkpoints that are no parameters: tables that are computed. */
const computed = /(^|\.)(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|embeddings\.position_ids)$/;

export interface LoadWeightsOptions {
  /** What the file calls a parameter; the parameter's own name unless given. */
  nameInFile?: (parameter: string) => string;
  /** Names of the file that the model has no use for. */
  ignored?: readonly string[];
}

/**
 * Fills a model's parameters from a file, one at a time, and resolves to the names of those it ignored. Names and shapes
 * must fit; nothing is changed if one does not. Throws ERR_FORMAT, naming the file.
 */
export async function loadWeights(
  model: Module,
  file: WeightFile,
  { nameInFile = (name) => name, ignored = [] }: LoadWeightsOptions = {},
): Promise<string[]> {
  const parameters = new Map([...model.namedParameters()].map(([name, tensor]) => [nameInFile(name), tensor]));
  const fault = (message: string): HeedError => new HeedError("ERR_FORMAT", `${file.path}: ${message}`);
  const list = (names: string[]): string => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
  const missing = [...parameters.keys()].filter((name) => !file.tensors.has(name));
  if (missing.length > 0) throw fault(`expected the model's parameters, got no ${list(missing)}`);
  const unknown = [...file.tensors.keys()].filter(
    (name) => !parameters.has(name) && !ignored.includes(name) && !computed.test(name),
  );
  if (unknown.length > 0) throw fault(`expected the model's parameters alone, got ${list(unknown)}`);
  for (const [name, { shape }] of parameters) {
    const given = file.tensors.get(name)!.shape;
    if (!sameShape(given, shape))
      throw fault(`expected ${name} of shape ${formatShape(shape)}, got ${formatShape(given)}`);
  }
  for (const [name, parameter] of parameters) parameter.set(await file.readFloats(name));
  return ignored.filter((name) => file.tensors.has(name) && !parameters.has(name));
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
