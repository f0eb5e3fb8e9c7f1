import { afterEach } from "vitest";
import { Engine, type EngineOptions } from "../../lib/engine/engine.js";
import type { GPT } from "../../lib/models/gpt.js";
import type { Llama } from "../../lib/models/llama.js";

const open: Engine[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((engine) => engine.close()));
});

/** Returns an engine that is closed when the test has ended. */
export function engineFor(model: GPT | Llama, options: EngineOptions = {}): Engine {
  const engine = new Engine(model, options);
  open.push(engine);
  return engine;
}
