import { onTestFinished } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import type { EngineOptions } from "../../lib/engine/engine-options.js";
import type { Generation, GenerationResult } from "../../lib/generate/generation.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";

/** Returns an engine that is closed when the test has ended. */
export function engineFor(model: CausalDecoder, options: EngineOptions = {}): Engine {
  const engine = new Engine(model, options);
  // A hook of this file would belong to the first of the test files that share a process.
  onTestFinished(() => engine.close());
  return engine;
}

/**
 * Resolves when a generation has its first token, and reads the rest meanwhile. Turns of the event loop say nothing about
 * what has begun: a small model generates many tokens in one, or none.
 */
export async function begun(generation: Generation): Promise<{ result: Promise<GenerationResult> }> {
  const events = generation[Symbol.asyncIterator]();
  await events.next();
  const read = async (): Promise<GenerationResult> => {
    for await (const _ of events);
    return generation;
  };
  const result = read();
  // The test may look at the error later.
  result.catch(() => undefined);
  return { result };
}
