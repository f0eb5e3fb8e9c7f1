import type * as heed from "../../lib/index.js";

export interface Run {
  model: string;
  settings?: object;
  distributed?: object;
}
export interface Result {
  losses: number[];
  evaluation: number | null;
  weights: Record<string, number[]>;
}
export type RunName = "gpt" | "zero" | "llama" | "lora" | "muon" | "muon zero" | "checkpointed" | "bf16";
export const ids: Uint8Array;
export const runs: Record<RunName, Run>;
export function make(library: typeof heed, name: string, device?: string): heed.GPT | heed.Llama;
export function train(library: typeof heed, run: Run, more?: object): Promise<Result>;
