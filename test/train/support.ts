import { GPT } from "../../lib/models/gpt.js";
import { type TokenSource, tokenData } from "../../lib/data/token-data.js";
import type { TrainerEvent } from "../../lib/train/events.js";
import { Random } from "../support/random.js";

/** Returns a model that is small but has everything that a real model has. */
export function tinyModel(options: { dropout?: number; seed?: number; device?: string } = {}): GPT {
  const { dropout = 0, seed = 1, device = "auto" } = options;
  return new GPT({ vocabularySize: 11, contextLength: 8, layers: 2, heads: 2, width: 16, dropout }, { seed, device });
}

/** Returns tokens with something to learn: mostly the previous token plus a fixed step, with noise. */
export function tokens(length = 700, seed = 3): TokenSource {
  const random = new Random(seed);
  const ids = new Uint8Array(length);
  for (let i = 1; i < length; i++) ids[i] = random.uniform() < 0.8 ? (ids[i - 1]! + 3) % 11 : random.integer(11);
  return tokenData(ids);
}

/** Collects all events of a run. */
export async function collect(run: AsyncIterable<TrainerEvent>): Promise<TrainerEvent[]> {
  const events: TrainerEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

export function losses(events: readonly TrainerEvent[]): number[] {
  return events.flatMap((event) => (event.type === "step" ? [event.loss] : []));
}

/** Returns a model's parameters, or an optimiser's moments, as numbers. */
export async function values(of: {
  stateDict(): Record<string, { data(): Promise<Float32Array> }>;
}): Promise<Record<string, Float32Array>> {
  const entries = Object.entries(of.stateDict()).map(async ([name, tensor]) => [name, await tensor.data()] as const);
  return Object.fromEntries(await Promise.all(entries));
}
