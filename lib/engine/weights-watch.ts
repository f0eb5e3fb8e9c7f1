import type { Model } from "../models/model.js";
import type { FloatTensor } from "../tensor.js";

/** Notices that the weights of a model have changed, so that keys and values of earlier steps are outdated. */
export class WeightsWatch {
  readonly #model: Model;
  #parameters: readonly FloatTensor[] = [];
  #versions: readonly number[] = [];
  #dtype = "";

  constructor(model: Model) {
    this.#model = model;
    this.note();
  }

  /** True if the weights, or the dtype of activations, have changed since they were last noted. */
  get changed(): boolean {
    return (
      this.#dtype !== this.#model.dtype ||
      this.#parameters.some((one, i) => one.disposed || one.version !== this.#versions[i])
    );
  }

  /** Notes the weights as they are now. */
  note(): void {
    this.#parameters = this.#model.parameters();
    this.#versions = this.#parameters.map(({ version }) => version);
    this.#dtype = this.#model.dtype;
  }
}
