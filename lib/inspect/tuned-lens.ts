import { mkdir } from "node:fs/promises";
import path from "node:path";
import { noGrad } from "../core/autograd.js";
import { checkInteger, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { inFile, readJsonFile } from "../util/files.js";
import { writeTextAtomic } from "../formats/atomic-file.js";
import { readSafetensors, type SafetensorsInput, writeSafetensors } from "../formats/safetensors.js";
import { initializerOf, type ModelOptions } from "../models/model.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { InspectedDecoder } from "./hook-names.js";
import { type RunOptions, runWithCache } from "./run.js";

/** Configuration of a `TunedLens`. */
export interface TunedLensConfig {
  /** Number of blocks of the model. */
  layers: number;
  /** C, the width of the residual stream. */
  width: number;
}

/**
 * Tuned lens (Belrose et al. 2023): one affine translator for each block, which turns the residual stream before the block
 * into that after the last block, x + A·x + b, so that the model's own projection reads it. A new lens changes nothing
 * and is the logit lens; `trainTunedLens` trains one.
 *
 * @example
 * const lens = new TunedLens({ layers: 2, width: 16 });
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const logits = lens.logits(gpt, ids);
 * logits.length; // 3, for a model of 2 blocks
 *
 * @see https://arxiv.org/abs/2303.08112
 */
export class TunedLens extends Module {
  readonly translators: Linear[];
  /** Complete configuration. */
  readonly config: TunedLensConfig;

  /** @throws ERR_RANGE if a size is not an integer of at least 1. */
  constructor(config: TunedLensConfig, options: ModelOptions = {}) {
    super();
    checkObject("TunedLens", "config", config);
    const { layers, width } = config;
    checkInteger("TunedLens", "layers", layers, 1);
    checkInteger("TunedLens", "width", width, 1);
    this.config = { layers, width };
    const init = initializerOf(options);
    const one = { inputs: width, outputs: width, std: 0 };
    this.translators = Array.from({ length: layers }, () => new Linear(one, init));
  }

  /**
   * Returns the residual stream x [..., C] before a block, translated to that after the last block.
   *
   * @throws ERR_RANGE if there is no such block.
   */
  translate(layer: number, x: FloatTensor): FloatTensor {
    checkInteger("TunedLens", "layer", layer, 0, this.translators.length - 1);
    return this.translators[layer]!.forward(x, { residual: x });
  }

  /**
   * Returns what the lens reads before each block, and the model's own output at the end: layers + 1 tensors of logits
   * [B, T, V]. Dispose them.
   *
   * @throws ERR_SHAPE if the model has another number of blocks or another width; the errors of `run`.
   */
  logits(
    model: InspectedDecoder,
    ids: IntTensor,
    options?: Omit<RunOptions<InspectedDecoder>, "stopAtLayer">,
  ): FloatTensor[] {
    this.checkFits("TunedLens", model);
    const given = { ...options, names: /hook_resid_pre$/ };
    return noGrad(() =>
      scope(() => {
        using cache = runWithCache(model, ids, given);
        const read = [...cache].map(([, stream], layer) => this.read(model, layer, stream.to("f32")));
        return [...read, cache.output.alias()];
      }),
    );
  }

  /** @internal Returns the logits [..., V] of the residual stream x [..., C] before a block. */
  read(model: InspectedDecoder, layer: number, x: FloatTensor): FloatTensor {
    return model.unembed(this.translate(layer, x).to(model.dtype));
  }

  /** @internal Checks that the lens is for a model of this size. */
  checkFits(op: string, model: InspectedDecoder): void {
    const { layers, width } = model.config;
    if (layers === this.config.layers && width === this.config.width) return;
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected a lens for ${layers} blocks of width ${width}, got one for ${this.config.layers} of width ${this.config.width}`,
    );
  }

  /**
   * Saves the lens to a folder, as config.json and params.safetensors.
   *
   * @example
   * const lens = new TunedLens({ layers: 2, width: 16 });
   * await lens.save("lens");
   * const same = await TunedLens.load("lens");
   *
   * @throws ERR_IO if a file cannot be written.
   */
  async save(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    const tensors = this.translators.flatMap((translator, layer): SafetensorsInput[] =>
      ["weight" as const, "bias" as const].map((part) => ({
        name: `${layer}.${part}`,
        dtype: "F32",
        shape: translator[part]!.shape,
        data: () => translator[part]!.data(),
      })),
    );
    await writeSafetensors(path.join(folder, "params.safetensors"), tensors);
    const { layers, width } = this.config;
    const config = { lens_type: "linear_tuned_lens", num_hidden_layers: layers, d_model: width, bias: true };
    await writeTextAtomic(path.join(folder, "config.json"), [`${JSON.stringify(config, null, 2)}\n`]);
  }

  /**
   * Loads a lens that `save` has written.
   *
   * @throws ERR_IO if a file cannot be read; ERR_FORMAT if it is damaged.
   */
  static async load(folder: string, options: Pick<ModelOptions, "device"> = {}): Promise<TunedLens> {
    const file = path.join(folder, "config.json");
    const config = (await readJsonFile(file)) as { num_hidden_layers?: number; d_model?: number } | null;
    const { num_hidden_layers: layers, d_model: width } = config ?? {};
    const size = await inFile(file, () => {
      checkInteger("TunedLens", "num_hidden_layers", layers, 1, 4096);
      checkInteger("TunedLens", "d_model", width, 1, 2 ** 20);
      return { layers: layers!, width: width! };
    });
    await using weights = await readSafetensors(path.join(folder, "params.safetensors"));
    const names = Array.from({ length: size.layers }, (_, i) => [`${i}.weight`, `${i}.bias`]).flat();
    for (const name of names) {
      const shape = name.endsWith("bias") ? [size.width] : [size.width, size.width];
      const found = weights.tensors.get(name)?.shape ?? [];
      if (String(found) !== String(shape))
        throw new HeedError(
          "ERR_FORMAT",
          `${weights.path}: expected ${name} of shape [${shape.join(", ")}], got [${found.join(", ")}]`,
        );
    }
    const lens = new TunedLens(size, options);
    for (const [i, translator] of lens.translators.entries()) {
      translator.weight.set(await weights.readFloats(`${i}.weight`));
      translator.bias!.set(await weights.readFloats(`${i}.bias`));
    }
    return lens;
  }
}
