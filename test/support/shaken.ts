/** Weights larger than training begins with, so that every part of a model shows. */
import type { Module } from "../../lib/nn/module.js";
import { Random } from "./random.js";

/** The model, its weights drawn anew: those of norms around 1, everything else around 0. */
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
