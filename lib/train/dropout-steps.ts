import { DropoutSeeds } from "../nn/dropout.js";
import type { Module } from "../nn/module.js";

/** The seeds of all dropout in a model, which follow from the micro-batch. */
export class DropoutSteps {
  readonly #all: readonly DropoutSeeds[];

  /** Finds the seeds of a model and of the modules in it: `DropoutSeeds` that are properties of one of them. */
  constructor(model: Module) {
    const found = new Set<DropoutSeeds>();
    for (const [, module] of model.modules()) {
      const { dropoutSeeds } = module as { dropoutSeeds?: unknown };
      const properties: unknown[] = Object.values(module);
      for (const value of [dropoutSeeds, ...properties]) if (value instanceof DropoutSeeds) found.add(value);
    }
    this.#all = [...found];
  }

  /** Seed of the first ones, which belong to the model itself; 0 if there are none. */
  get seed(): number {
    return this.#all[0]?.seed ?? 0;
  }

  /** Begins a micro-batch. */
  begin(microBatch: number): void {
    for (const seeds of this.#all) seeds.step = microBatch;
  }
}
