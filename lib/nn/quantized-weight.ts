import { keep } from "../core/scope.js";
import type { BlockFormat } from "../core/block-formats.js";
import type { Device } from "../core/device.js";
import {
  type ActivationBits,
  type BlockTensors,
  checkActivations,
  groupSizeOf,
  type QuantizedBits,
  type QuantizedTensors,
  type QuantizeOptions,
} from "../ops/quantize.js";
import type { Tensor } from "../core/tensor.js";
import { Module } from "./module.js";

/** A weight in codes, with the bits to which its products may round activations. */
abstract class CodedWeight extends Module {
  #activations: ActivationBits = 16;

  override get isQuantized(): boolean {
    return true;
  }

  override get activations(): ActivationBits {
    return this.#activations;
  }

  override roundActivations(bits: ActivationBits): this {
    this.#activations = checkActivations("roundActivations", bits);
    return this;
  }
}

/**
 * Quantised weight that replaces a layer's weight. It is not a parameter, but is moved and disposed with its module.
 *
 * @example
 * const weight = new QuantizedWeight(quantize(randn([16, 64], { seed: 1 }), { bits: 8 }));
 * quantizedLinear(randn([2, 64], { seed: 2 }), weight).shape; // [2, 16]
 */
export class QuantizedWeight extends CodedWeight implements QuantizedTensors {
  readonly codes: Tensor<"u8">;
  readonly scales: Tensor<"bf16">;
  readonly inputs: number;
  readonly outputs: number;
  readonly bits: QuantizedBits;

  /** Takes over the tensors: they live until the module is disposed. */
  constructor({ codes, scales, inputs, outputs, bits }: QuantizedTensors) {
    super();
    this.codes = keep(codes);
    this.scales = keep(scales);
    this.inputs = inputs;
    this.outputs = outputs;
    this.bits = bits;
  }

  /** Number of inputs that share a scale. */
  get groupSize(): Required<QuantizeOptions>["groupSize"] {
    return groupSizeOf(this);
  }

  /** Device that holds the weight. */
  get device(): Device {
    return this.codes.device;
  }
}

/**
 * Weight in the blocks of a GGUF file that replaces a layer's weight. It is not a parameter, but is moved and disposed
 * with its module.
 *
 * @example
 * await saveGguf("gpt-q8.gguf", gpt, { type: "Q8_0" });
 * const { model } = await loadGguf("gpt-q8.gguf");
 * const stored = [...model.modules()].filter(([, module]) => module instanceof BlockWeight);
 */
export class BlockWeight extends CodedWeight implements BlockTensors {
  readonly blocks: Tensor<"u8">;
  readonly format: BlockFormat;
  readonly inputs: number;
  readonly outputs: number;

  /** Takes over the tensor: it lives until the module is disposed. */
  constructor({ blocks, format, inputs, outputs }: BlockTensors) {
    super();
    this.blocks = keep(blocks);
    this.format = format;
    this.inputs = inputs;
    this.outputs = outputs;
  }

  /** Device that holds the weight. */
  get device(): Device {
    return this.blocks.device;
  }
}
