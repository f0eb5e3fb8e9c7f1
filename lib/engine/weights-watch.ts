import { baseParameters } from "../adapters/adapters.js";
import type { Model } from "../models/model.js";
import type { FloatTensor } from "../core/tensor.js";

/** Notices that weights have changed with which keys and values of earlier steps were computed, so that these are outdated. */
export class WeightsWatch {
  readonly #model: Model;
  /** The parameters of the model, and of the adapters that are in use, with their versions. */
  readonly #versions = new Map<FloatTensor, number>();
  #dtype = "";

  constructor(model: Model) {
    this.#model = model;
    this.note();
  }

  /** True if the weights, or the dtype of activations, have changed since they were last noted. */
  get changed(): boolean {
    if (this.#dtype !== this.#model.dtype) return true;
    for (const [one, version] of this.#versions) if (one.disposed || one.version !== version) return true;
    return false;
  }

  /** Notes the weights of the model as they are now, without any adapters. */
  note(): void {
    this.#versions.clear();
    for (const one of Object.values(baseParameters(this.#model))) this.#versions.set(one, one.version);
    this.#dtype = this.#model.dtype;
  }

  /** Watches the parameters of an adapter from now on, if they are not watched yet. */
  add(parameters: readonly FloatTensor[]): void {
    for (const one of parameters) if (!this.#versions.has(one)) this.#versions.set(one, one.version);
  }

  /** Watches the parameters of an adapter no longer. */
  remove(parameters: readonly FloatTensor[]): void {
    for (const one of parameters) this.#versions.delete(one);
  }
}
