// The adapters of one linear layer in passes in which rows of the batch have different adapters: rows with the same
// adapter stand side by side, and each such run has two small products of its own beside the layer's product of all rows
// (Chen et al. 2023, https://arxiv.org/abs/2310.18547).
//
// A row has the same bits whatever the other rows are. One without an adapter has those of the layer alone: a change of
// -0 changes no number that it is added to, and if an activation follows, the row is computed by the fused product.
import { noGrad } from "../core/autograd.js";
import { full } from "../core/creation.js";
import type { FloatDType } from "../core/dtype.js";
import { ops } from "../core/native.js";
import type { Linear, LinearForwardOptions } from "../nn/linear.js";
import { activate } from "../ops/activation.js";
import { add, mul } from "../ops/binary.js";
import { contiguous, narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import type { Lora } from "./lora.js";

/** Rows side by side that have the same adapter. */
export interface RowRun {
  /** Number of the adapter; null for none. */
  readonly adapter: number | null;
  readonly count: number;
}

/** The adapters of the rows of a pass. */
export interface RowsOfPass {
  readonly runs: readonly RowRun[];
  /** Those of the rows of which the logits are computed. */
  readonly last: readonly RowRun[];
}

/** A LoRA, ready to be used in the dtype of the activations. */
interface Factors {
  /** A, [rank, in]. */
  readonly a: FloatTensor;
  /** s·B, [out, rank]; of a DoRA with its rows multiplied by g. */
  readonly b: FloatTensor;
  /** g − 1 of a DoRA, [out]; null for a LoRA. */
  readonly gain: FloatTensor | null;
}

/** A run with the change that it needs; null if the layer alone computes it. */
interface Part {
  first: number;
  count: number;
  factors: Factors | null;
}

/** The adapters of a layer by their numbers. */
export class LayerRows implements Disposable {
  /** The pass that runs; null if none does. */
  pass: RowsOfPass | null = null;
  readonly #layer: Linear;
  readonly #factors = new Map<number, Factors>();

  constructor(layer: Linear) {
    this.#layer = layer;
  }

  /** Adds an adapter, for activations of this dtype. */
  add(adapter: number, lora: Lora, dtype: FloatDType): void {
    const factors = noGrad(() =>
      scope(() => {
        const { a, b, gain } = lora.factors(this.#layer);
        const kept = (x: FloatTensor): FloatTensor => keep(copyOf(x, dtype));
        return { a: kept(a), b: kept(b), gain: gain && kept(gain) };
      }),
    );
    this.#factors.set(adapter, factors);
  }

  /** Removes an adapter, if the layer has it. */
  remove(adapter: number): void {
    const factors = this.#factors.get(adapter);
    for (const one of [factors?.a, factors?.b, factors?.gain]) one?.dispose();
    this.#factors.delete(adapter);
  }

  forward(x: FloatTensor, layer: Linear, { activation = "none", residual = null }: LinearForwardOptions): FloatTensor {
    const { bias } = layer;
    return scope(() => {
      const rows = reshape(contiguous(x), [-1, layer.inputs]); // [N, in]
      const parts = this.#partsOf(rows.shape[0]!);
      if (parts.every(({ factors }) => factors === null)) return layer.product(x, { bias, activation, residual });
      const added = residual && reshape(contiguous(residual), [rows.shape[0]!, -1]); // [N, out]
      const shape = [...x.shape.slice(0, -1), layer.outputs];
      if (activation === "none") {
        const change = this.#changes(rows, parts, added);
        return layer.product(x, { bias, residual: reshape(change, shape) });
      }
      const out: FloatTensor = allocate([rows.shape[0]!, layer.outputs], x.dtype, x.device);
      for (const { first, count, factors } of parts) {
        const at = (whole: FloatTensor): FloatTensor => narrow(whole, 0, first, count);
        const own = added && at(added);
        const y = factors
          ? activate(layer.product(at(rows), { bias, residual: this.#change(at(rows), factors, null) }), activation)
          : layer.product(at(rows), { bias, activation, residual: own });
        ops.copy({ out: at(out), inp: factors && own ? add(y, own) : y });
      }
      return reshape(out, shape);
    });
  }

  dispose(): void {
    for (const adapter of [...this.#factors.keys()]) this.remove(adapter);
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Returns the runs of N rows. Neighbours without a change of this layer are one. */
  #partsOf(rows: number): Part[] {
    const { runs, last } = this.pass!;
    const total = runs.reduce((sum, { count }) => sum + count, 0);
    const parts: Part[] = [];
    let first = 0;
    for (const { adapter, count } of rows === total ? runs : last) {
      const factors = adapter === null ? null : (this.#factors.get(adapter) ?? null);
      const before = parts.at(-1);
      if (before?.factors === null && factors === null) before.count += count;
      else parts.push({ first, count, factors });
      first += count;
    }
    return parts;
  }

  /** Returns what is added to the products of all rows [N, in], with the residual: [N, out]. */
  #changes(rows: FloatTensor, parts: readonly Part[], residual: FloatTensor | null): FloatTensor {
    const [only] = parts;
    if (parts.length === 1) return this.#change(rows, only!.factors!, residual);
    const shape = [rows.shape[0]!, this.#layer.outputs];
    const { dtype, device } = rows;
    const out: FloatTensor = residual ? allocate(shape, dtype, device) : full(shape, -0, { dtype, device });
    for (const { first, count, factors } of parts) {
      const at = (whole: FloatTensor): FloatTensor => narrow(whole, 0, first, count);
      if (factors) this.#change(at(rows), factors, residual && at(residual), at(out));
      else if (residual) ops.copy({ out: at(out), inp: at(residual) });
    }
    return out;
  }

  /** Returns the change of rows with one adapter, plus the residual. If `out` is given, it is written there. */
  #change(
    x: FloatTensor,
    { a, b, gain }: Factors,
    residual: FloatTensor | null,
    out: FloatTensor = allocate([x.shape[0]!, this.#layer.outputs], x.dtype, x.device),
  ): FloatTensor {
    const low: FloatTensor = allocate([x.shape[0]!, a.shape[0]!], x.dtype, x.device);
    ops.gemm({ out: low, a: x, b: a, transposeB: true });
    ops.gemm({ out, a: low, b, transposeB: true, residual });
    if (gain) ops.copy({ out, inp: add(out, mul(this.#layer.product(x), gain)) });
    return out;
  }
}

/** Returns a copy that belongs to nobody else. */
function copyOf(x: FloatTensor, dtype: FloatDType): FloatTensor {
  const out: FloatTensor = allocate(x.shape, dtype, x.device);
  ops.copy({ out, inp: x });
  return out;
}
