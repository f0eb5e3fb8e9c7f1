import { noGrad } from "../core/autograd.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import type { Initializer } from "../nn/init.js";
import type { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { ops } from "../core/native.js";
import { add, div, mul, sub } from "../ops/binary.js";
import { linear } from "../ops/linear.js";
import { dequantize } from "../ops/quantize.js";
import { sum } from "../ops/reduce.js";
import { sqrt, square } from "../ops/unary.js";
import { reshape, transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import type { LoraSettings } from "./lora-options.js";

/**
 * Low-rank change of one linear layer: x·Wᵀ + b becomes x·(W + s·B·A)ᵀ + b (LoRA, Hu et al. 2021). With a magnitude m, the
 * rows of the changed weight are scaled to the lengths m (DoRA, Liu et al. 2024). Parameters are f32 and have PEFT's
 * names and shapes.
 *
 * @see https://arxiv.org/abs/2106.09685
 * @see https://arxiv.org/abs/2402.09353
 */
export class Lora extends Module {
  static #made = 0;
  /** A, [rank, in]. */
  readonly lora_A: FloatTensor;
  /** B, [out, rank]. It is zeros at first, so that a new adapter changes nothing. */
  readonly lora_B: FloatTensor;
  /** Lengths of the changed weight's rows, [out]; null for LoRA. */
  readonly lora_magnitude_vector: FloatTensor | null;
  readonly dropout: Dropout;
  /** Factor s of the change: alpha/rank, or alpha/√rank if it is rank-stabilised (Kalajdzievski 2023). */
  readonly scale: number;
  /** Number of changes that were made before. Layers do not tell the order in which adapters were added. */
  readonly number = Lora.#made++;

  constructor(
    layer: Linear,
    readonly settings: LoraSettings,
    init: Initializer,
    seeds: DropoutSeeds,
  ) {
    super();
    const { rank, alpha, dropout, rsLora, dora } = settings;
    const { inputs, outputs } = layer;
    const bound = 1 / Math.sqrt(inputs); // PEFT's: Kaiming's uniform distribution with a = √5
    this.lora_A = init.uniform([rank, inputs], -bound, bound);
    this.lora_B = init.constant([outputs, rank], 0);
    this.lora_magnitude_vector = dora ? init.constant([outputs], 0) : null;
    this.dropout = new Dropout(dropout, seeds);
    this.scale = alpha / (rsLora ? Math.sqrt(rank) : rank);
    if (this.lora_magnitude_vector) this.#measure(layer, this.lora_magnitude_vector);
  }

  /** Returns the layer's changed product, with bias, plus `residual`: x [..., in] → [..., out]. */
  forward(x: FloatTensor, layer: Linear, residual: FloatTensor | null): FloatTensor {
    const { lora_magnitude_vector: magnitude, dropout } = this;
    return scope(() => {
      const dropped = dropout.forward(x);
      if (!magnitude) return layer.product(x, { bias: layer.bias, residual: this.#change(dropped, residual) }); // [..., out]
      const change = this.#change(dropped, null);
      const changed = layer.product(dropped, { residual: change });
      const base = dropped === x ? changed : layer.product(x, { residual: change });
      // The rows are scaled by g = m / ‖W + s·B·A‖. Written as y + (g − 1)·y, because g is near 1, and in 16 bits its
      // rounding would be felt.
      const gain = sub(div(magnitude.to("f32"), this.#norms(layer)), 1);
      let y = add(base, mul(changed, gain.to(x.dtype)));
      if (layer.bias) y = add(y, layer.bias.to(x.dtype));
      return residual ? add(y, residual) : y;
    });
  }

  /**
   * Returns the factors of the change that is added to x·Wᵀ: x·aᵀ·bᵀ with a = A [rank, in] and b = s·B [out, rank]. With
   * g = m / ‖W + s·B·A‖, a DoRA adds g·s·x·Aᵀ·Bᵀ + (g − 1)·x·Wᵀ, so that b contains g, and `gain` is g − 1 [out].
   */
  factors(layer: Linear): { a: FloatTensor; b: FloatTensor; gain: FloatTensor | null } {
    const { lora_A, lora_B, lora_magnitude_vector: magnitude } = this;
    const b = mul(lora_B.to("f32"), this.scale);
    if (!magnitude) return { a: lora_A, b, gain: null };
    const g = div(magnitude.to("f32"), this.#norms(layer));
    return { a: lora_A, b: mul(b, reshape(g, [layer.outputs, 1])), gain: sub(g, 1) };
  }

  /** Writes the changed weight to the layer, rounded once. */
  mergeInto(layer: Linear): void {
    noGrad(() =>
      scope(() => {
        let weight = this.#changedWeight(layer);
        if (this.lora_magnitude_vector) {
          const gain = div(this.lora_magnitude_vector.to("f32"), this.#norms(layer));
          weight = mul(weight, layer.layout === "oi" ? reshape(gain, [layer.outputs, 1]) : gain);
        }
        // A weight that is kept in 16 bits in a model of f32 would lose digits of the change.
        layer.weight.move(layer.weight.modelDType);
        ops.copy({ out: layer.weight, inp: weight });
        layer.weight.overwritten();
      }),
    );
  }

  /** Returns s·x·Aᵀ·Bᵀ + residual. */
  #change(x: FloatTensor, residual: FloatTensor | null): FloatTensor {
    const low = linear(x, this.lora_A); // [..., rank]
    return linear(this.scale === 1 ? low : mul(low, this.scale), this.lora_B, { residual });
  }

  /** Returns W + s·B·A in f32, in the layer's layout. */
  #changedWeight(layer: Linear): FloatTensor {
    const { layout, quantized } = layer;
    const [a, b] = [this.lora_A.to("f32"), mul(this.lora_B.to("f32"), this.scale)];
    if (quantized) return linear(b, a, { layout: "io", residual: dequantize(quantized) });
    const residual = layer.weight.to("f32");
    return layout === "oi" ? linear(b, a, { layout: "io", residual }) : linear(transpose(a), b, { residual });
  }

  /** Returns the lengths of the changed weight's rows, [out]. They count as constants in the backward pass (§4.3). */
  #norms(layer: Linear): FloatTensor {
    const axis = layer.layout === "oi" || layer.quantized ? 1 : 0;
    return noGrad(() => scope(() => sqrt(sum(square(this.#changedWeight(layer)), { axes: [axis] }))));
  }

  #measure(layer: Linear, magnitude: FloatTensor): void {
    using norms = this.#norms(layer);
    ops.copy({ out: magnitude, inp: norms });
  }
}
