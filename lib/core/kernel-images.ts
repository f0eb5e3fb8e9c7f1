/** Loading of the kernels that a model needs on a CUDA device, while the event loop goes round. */
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { checkArray, checkChoice, checkFunction, checkObject } from "../util/check.js";
import { type FloatDType } from "./dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { native } from "./native.js";

/** Part of a model that `device.warmUp` looks at: every module has it. */
export interface WarmUpModel {
  /** True if the weights are quantised. */
  readonly isQuantized: boolean;
  /** Returns the parameters, whose dtypes say which kernels are needed. */
  parameters(): readonly { readonly dtype: string }[];
  /** Yields the modules with their names. Those with attention have the size of a head as `headSize`. */
  modules(): Iterable<readonly [name: string, module: object]>;
}

/** Progress of `device.warmUp`. */
export interface WarmUpProgress {
  /** The image that has just been loaded, such as "gemm_bf16.large_k". */
  image: string;
  /** The number of images that have been loaded by now. */
  loaded: number;
  /** The number of images that this call loads. */
  total: number;
}

/** Options of `device.warmUp`. */
export interface WarmUpOptions {
  /** Dtypes of the computation besides those of the parameters; ["bf16"] for mixed precision. @default [] */
  dtypes?: readonly FloatDType[] | undefined;
  /** Called after each image. */
  onProgress?: ((progress: WarmUpProgress) => void) | undefined;
  /** Ends the work: nothing more is loaded than what is being loaded at that moment. */
  signal?: AbortSignal | undefined;
}

const op = "warmUp";
/** Number of packs that are loaded at the same time: half of libuv's threads, so that files can still be read. */
const atOnce = 2;
const unpack = promisify(brotliDecompress);

/** Loads the kernels that a model needs on a device, given by its native number. The CPU (0) needs none to be loaded. */
export async function warmUp(device: number, model: WarmUpModel, options: WarmUpOptions): Promise<void> {
  checkObject(op, "model", model);
  if (typeof model.parameters !== "function" || typeof model.modules !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model, got ${describe(model)}`);
  checkObject(op, "options", options);
  const { dtypes = [], onProgress, signal } = options;
  checkArray(op, "dtypes", dtypes);
  for (const dtype of dtypes) checkChoice(op, "dtypes of", dtype, ["f32", "bf16", "f16"]);
  if (onProgress !== undefined) checkFunction(op, onProgress);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected signal to be an AbortSignal, got ${describe(signal)}`);
  signal?.throwIfAborted();
  if (device === 0) return;

  const images = native.kernelImages(device);
  const needed = neededImages(
    images.map(({ name }) => name),
    model,
    dtypes,
  );
  const missing = images.filter(({ name, loaded }) => needed.has(name) && !loaded);
  const total = missing.length;
  // A pack is unpacked once for all of its images.
  const packs = new Map<number, string[]>();
  for (const { name, pack } of missing) packs.set(pack, [...(packs.get(pack) ?? []), name]);
  const waiting = [...packs.values()];
  let loaded = 0;
  const loadSome = async (): Promise<void> => {
    for (let names = waiting.pop(); names !== undefined; names = waiting.pop()) {
      const unpacked = await unpack(native.packedImage(names[0]!));
      for (const image of names) {
        signal?.throwIfAborted();
        await native.loadImage(device, image, unpacked);
        onProgress?.({ image, loaded: ++loaded, total });
      }
    }
    signal?.throwIfAborted();
  };
  try {
    await Promise.all(Array.from({ length: atOnce }, loadSome));
  } finally {
    waiting.length = 0; // the other one ends as well
  }
}

/** Properties that the name of an image gives: "attention_forward_mma.64_bf16" is for head size 64 and bf16. */
interface NamedImage {
  name: string;
  dtype: string | undefined;
  /** True if a call decides whether it is needed: because of a mask of blocks, or of keys in 8 bits. */
  optional: boolean;
  quantized: boolean;
  /** Name of the file if its images differ by head size. */
  attention: string | undefined;
  /** Largest head size that the image is for; undefined if it is for any. */
  size: number | undefined;
}

function parse(name: string): NamedImage {
  const words = name.split(/[._]/);
  const attention = /^attention_(?:forward|backward)\w*/.exec(name)?.[0];
  const size = attention ? words.find((word) => /^\d+$/.test(word)) : undefined;
  return {
    name,
    attention,
    size: size === undefined ? undefined : Number(size),
    dtype: words.find((word) => /^(?:b?f16|t?f32)$/.test(word)),
    optional: words.includes("masked") || words.includes("int8"),
    quantized: ["quantized", "quantize", "blocks", "decoded"].some((word) => words.includes(word)),
  };
}

/**
 * Returns those images that a model may need: images for its dtypes and head sizes, and images for any dtype and head size.
 * Kernels for masks of blocks and for keys in 8 bits are not among them, since a call decides on these, not the model.
 */
export function neededImages(
  names: readonly string[],
  model: WarmUpModel,
  dtypes: readonly FloatDType[] = [],
): Set<string> {
  const used = new Set<string>([...model.parameters().map(({ dtype }) => dtype), ...dtypes]);
  if (used.has("f32") && native.tf32()) used.add("tf32");
  const heads = new Set<number>();
  for (const [, module] of model.modules())
    if ("headSize" in module && typeof module.headSize === "number") heads.add(module.headSize);

  const candidates = names
    .map(parse)
    .filter(
      ({ dtype, optional, quantized }) => (!dtype || used.has(dtype)) && !optional && (!quantized || model.isQuantized),
    );
  /** Returns whether the image's size is the least that is large enough, or the file's largest where none is. */
  const serves = ({ attention, dtype, size }: NamedImage, head: number): boolean => {
    const sizes = candidates
      .filter((other) => other.attention === attention && other.dtype === dtype)
      .flatMap((other) => other.size ?? []);
    const enough = sizes.filter((other) => other >= head);
    return size === (enough.length > 0 ? Math.min(...enough) : Math.max(...sizes));
  };
  const most = (dtype: string | undefined): number =>
    Math.max(0, ...candidates.filter((image) => image.dtype === dtype).map(({ size }) => size ?? 0));
  const needed = candidates.filter((image) => {
    if (!image.attention) return true;
    return [...heads].some((head) => (image.size === undefined ? head > most(image.dtype) : serves(image, head)));
  });
  return new Set(needed.map(({ name }) => name));
}
