import { activate } from "../ops/activation.js";
import { add } from "../ops/binary.js";
import { type Linear, LinearAdapter, type LinearForwardOptions } from "../nn/linear.js";
import type { Module } from "../nn/module.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Lora } from "./lora.js";
import type { LayerRows } from "./layer-rows.js";

/** The adapters of one linear layer, by name. */
export class LayerAdapters extends LinearAdapter {
  /** True if a layer of any model has ever had adapters. Otherwise no model has to be searched for them. */
  static exist = false;
  readonly loras = new Map<string, Lora>();
  /** Adapters by row while a pass runs in which each row has its own; otherwise null. */
  rows: LayerRows | null = null;
  /** Adapter that takes part in the layer's result; null for none. */
  #current: Lora | null = null;

  constructor() {
    super();
    LayerAdapters.exist = true;
  }

  override *children(): Generator<[string, Module]> {
    yield* this.loras;
  }

  get active(): boolean {
    return this.rows !== null || this.#current !== null;
  }

  get current(): Lora | null {
    return this.#current;
  }

  choose(name: string | null): void {
    this.#current = name === null ? null : (this.loras.get(name) ?? null);
  }

  forward(x: FloatTensor, layer: Linear, options: LinearForwardOptions): FloatTensor {
    if (this.rows) return this.rows.forward(x, layer, options);
    const { activation = "none", residual = null } = options;
    if (activation === "none") return this.#current!.forward(x, layer, residual);
    return scope(() => {
      const y = activate(this.#current!.forward(x, layer, null), activation);
      return residual ? add(y, residual) : y;
    });
  }
}
