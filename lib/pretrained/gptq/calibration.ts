// Reads texts through a model, block by block, and quantises each block from what its layers read, before the next block
// reads: later blocks thus see what earlier ones make of the texts in fewer bits.
import { noGrad } from "../../core/autograd.js";
import { tensor, zeros } from "../../core/creation.js";
import { HeedError } from "../../util/errors.js";
import type { CausalDecoder } from "../../models/causal-decoder.js";
import { Linear, LinearAdapter, type LinearForwardOptions } from "../../nn/linear.js";
import type { Module } from "../../nn/module.js";
import { WeightLayer } from "../../nn/weight-layer.js";
import { ops } from "../../core/native.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import { inTurns } from "../../util/turns.js";
import { type Feedback, feedbackOf } from "./feedback.js";

/** Returns the layers whose weights `quantize` quantises, with their names. */
export function quantizableLayers(model: Module): [string, WeightLayer][] {
  return [...model.modules()].filter(
    (entry): entry is [string, WeightLayer] => entry[1] instanceof WeightLayer && entry[1].quantizable,
  );
}

/** Adapter that changes nothing but adds up the second moments of a layer's inputs. */
class Moments extends LinearAdapter {
  readonly active = true;
  readonly sums: FloatTensor;

  constructor(layer: Linear) {
    super();
    const { inputs } = layer;
    this.sums = zeros([inputs, inputs], { device: (layer.quantized ?? layer.weight).device });
  }

  forward(x: FloatTensor, layer: Linear, options: LinearForwardOptions): FloatTensor {
    addMoments(this.sums, x);
    return layer.product(x, { bias: layer.bias, ...options });
  }
}

/** Adds the sum of x xᵀ over the rows of x [..., in] to `sums` [in, in]. */
function addMoments(sums: FloatTensor, x: FloatTensor): void {
  using numbers = x.to("f32");
  using dense = numbers.toContiguous();
  ops.gemm({ out: sums, a: dense, b: dense, transposeA: true, accumulate: true });
}

/** Adapter that only notes which tensor a layer reads. */
class Noted extends LinearAdapter {
  readonly active = true;

  constructor(readonly note: (x: FloatTensor) => void) {
    super();
  }

  forward(x: FloatTensor, layer: Linear, options: LinearForwardOptions): FloatTensor {
    this.note(x);
    return layer.product(x, { bias: layer.bias, ...options });
  }
}

/** Linear layers of a block that read the same tensor. */
type Readers = Linear[];

/** A pass of texts through a model, block by block, in which each block is quantised before the next one reads. */
export class Calibration {
  readonly #texts: readonly Int32Array[];

  constructor(
    op: string,
    readonly model: CausalDecoder,
    texts: readonly Int32Array[],
    readonly quantizeLayer: (layer: WeightLayer, feedback: Feedback | null) => Promise<void>,
  ) {
    this.#texts = texts.filter(({ length }) => length > 0).map((text) => text.subarray(0, model.config.contextLength));
    if (this.#texts.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected texts with tokens, got none`);
  }

  async run(): Promise<void> {
    const { model } = this;
    const { training } = model;
    model.eval();
    let states: FloatTensor[] = [];
    try {
      const { projection } = model;
      if (!(projection instanceof Linear)) {
        states = this.#embed();
        for (let layer = 0; layer < model.config.layers; layer++) await this.#advance(layer, states);
        await this.quantizeLayer(projection, await this.#feedbackOfStates(states, shareOfTable));
        for (const x of states) x.dispose();
      }
      states = this.#embed();
      for (let layer = 0; layer < model.config.layers; layer++) {
        for (const readers of this.#readers(layer, states[0]!)) await this.#quantize(layer, states, readers);
        await this.#advance(layer, states);
      }
      if (projection instanceof Linear) await this.quantizeLayer(projection, await this.#feedbackOfStates(states));
    } finally {
      for (const x of states) x.dispose();
      if (training) model.train();
    }
  }

  #embed(): FloatTensor[] {
    const { device } = this.model;
    return this.#texts.map((text) => {
      using ids = tensor(text, [1, text.length], { device, dtype: "i32" });
      return noGrad(() => this.model.blockInput(ids));
    });
  }

  /** Replaces the inputs of a block by its outputs. */
  async #advance(layer: number, states: FloatTensor[]): Promise<void> {
    for (const [i, x] of states.entries()) {
      states[i] = noGrad(() => this.model.blockOutput(layer, x));
      x.dispose();
      await this.#reached();
    }
  }

  /** Waits until the device has computed what was enqueued, so that little memory waits for it. */
  async #reached(): Promise<void> {
    await this.model.device.synchronize();
  }

  /** Returns the linear layers of a block in the order in which they run; those that read the same tensor are together. */
  #readers(layer: number, x: FloatTensor): Readers[] {
    const read = new Map<FloatTensor, Readers>();
    const linears = quantizableLayers(this.model).flatMap(([, layer]) => (layer instanceof Linear ? [layer] : []));
    try {
      for (const linear of linears)
        linear.adapter = new Noted((input) => {
          const readers = read.get(input);
          if (readers) readers.push(linear);
          else read.set(input, [linear]);
        });
      noGrad(() => this.model.blockOutput(layer, x)).dispose();
    } finally {
      for (const linear of linears) linear.adapter = null;
    }
    return [...read.values()];
  }

  async #quantize(layer: number, states: FloatTensor[], readers: Readers): Promise<void> {
    const [first] = readers as [Linear];
    const moments = new Moments(first);
    try {
      first.adapter = moments;
      for (const x of states) {
        noGrad(() => this.model.blockOutput(layer, x)).dispose();
        await this.#reached();
      }
      first.adapter = null;
      const feedback = await inTurns(feedbackOf(await moments.sums.data(), first.inputs));
      for (const linear of readers) await this.quantizeLayer(linear, feedback);
    } finally {
      first.adapter = null;
      moments.dispose();
    }
  }

  async #feedbackOfStates(states: FloatTensor[], share = 0): Promise<Feedback> {
    const { width } = this.model.config;
    using sums = zeros([width, width], { device: this.model.device });
    for (const x of states) {
      noGrad(() => scope(() => addMoments(sums, this.model.finalStates(x))));
      await this.#reached();
    }
    const moments = await sums.data();
    let trace = 0;
    for (let i = 0; i < width; i++) trace += moments[i * (width + 1)]!;
    for (let i = 0; i < width; i++) moments[i * (width + 1)]! += (share * trace) / width;
    return await inTurns(feedbackOf(moments, width));
  }
}

/**
 * Share of the mean second moment of the last states that is added to all of them when a table of tokens is also the
 * projection to logits: the errors of vectors of tokens count by themselves, too.
 */
const shareOfTable = 0.02;
