/** Gives a model larger weights than training begins with, so that every part of the model has an effect. */
import type { Module } from "../../lib/nn/module.js";
import { Random } from "./random.js";

/** Returns the model with new random weights: those of norms around 1, and all others around 0. */
export function shaken<M extends Module>(
  model: M,
  { seed = 3, std = () => 0.3 }: { seed?: number; std?: (name: string) => number } = {},
): M {
  const random = new Random(seed);
  for (const [name, weight] of model.namedParameters()) {
    const middle = /norm|ln_/i.test(name) && name.endsWith("weight") ? 1 : 0;
    const spread = std(name);
    weight.set(Array.from({ length: weight.size }, () => middle + spread * random.normal()));
  }
  return model;
}
