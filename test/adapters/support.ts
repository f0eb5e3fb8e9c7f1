import { lorasOf } from "../../lib/adapters/adapters.js";
import type { Module } from "../../lib/nn/module.js";

/** Fills B of an adapter, so that it changes the model. */
export function shakeAdapter(model: Module, name = "default"): void {
  let seed = 1;
  for (const { lora } of lorasOf(model, name).values())
    lora.lora_B.set(new Float32Array(lora.lora_B.size).map(() => Math.sin(seed++) / 4));
}
