import type { Module } from "./module.js";

/** Returns a function that puts the module and all modules in it into the modes, training or evaluation, of now. */
export function presentModes(module: Module): () => void {
  const modes = [...module.modules()].map(([, one]) => [one, one.training] as const);
  return () => {
    for (const [one, training] of modes) one.training = training;
  };
}

/** Runs `body` after `change` has changed the modes of a module, which are then what they were before. */
export function inModes<T>(module: Module, change: () => void, body: () => T): T {
  const restore = presentModes(module);
  change();
  try {
    return body();
  } finally {
    restore();
  }
}
