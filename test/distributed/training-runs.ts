/** Compares training in several processes with training in one. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import { listVersions } from "../../lib/formats/versioned-folder.js";
import * as heed from "../../lib/index.js";
import { type Launcher, program, start } from "./launch.js";
import { type Result, type RunName, runs, train } from "./models.mjs";

/** Folder, device and environment in which processes train. */
export interface Place {
  /** Folder for the runs. */
  folder: string;
  /** Device of the processes, and of the one that they are compared with. */
  device: string;
  /** Environment of the processes. */
  env?: NodeJS.ProcessEnv;
}

/** Runs that are compared. */
const names: readonly RunName[] = ["gpt", "zero", "llama", "lora", "muon", "muon zero", "checkpointed", "bf16"];
/** Runs with a divided state, beside those with the whole. */
const zeros = [
  ["zero", "gpt"],
  ["muon zero", "muon"],
] as const;

type Results = Record<string, Result & { memory: number[]; held: number[] }>;

/** Runs a task in several processes, and returns the results of the first. */
async function together(
  { launcher, size, task }: { launcher: Launcher; size: number; task: "save" | "resume" },
  { folder, env }: Place,
  names: readonly RunName[],
): Promise<Results> {
  const args = [program("training.mjs"), folder, task, ...names];
  const { code, output, errors } = await start(launcher, size, args, env).ended;
  expect({ code, errors }, output).toMatchObject({ code: 0 });
  return (JSON.parse(output) as { results: Results }).results;
}

function expectClose(actual: readonly number[], wanted: readonly number[], tolerance: number, what: string): void {
  expect(actual.length, what).toBe(wanted.length);
  for (const [i, value] of actual.entries())
    expect(Math.abs(value - wanted[i]!), `${what} ${i}`).toBeLessThan(tolerance);
}

/**
 * Trains every run in two processes: the losses are those of one process with twice the batch, and with ZeRO they have the
 * same bits as without. Then three processes and one resume what the two have saved.
 */
export async function compareTraining(launcher: Launcher, place: Place): Promise<void> {
  const { folder, device } = place;
  const results = await together({ launcher, size: 2, task: "save" }, place, names);
  const alone = new Map<string, Result>();
  for (const name of names) {
    const { model, settings } = runs[name];
    const key = JSON.stringify([model, settings]);
    const { losses, evaluation, weights } =
      alone.get(key) ?? (await train(heed, { model, ...(settings && { settings }) }, { device, batchSize: 4 }));
    alone.set(key, { losses, evaluation, weights });
    const tolerance = name === "bf16" ? 3e-2 : 1e-5;
    expectClose(results[name]!.losses, losses, tolerance, `${name}: loss or norm`);
    expect(Math.abs(results[name]!.evaluation! - evaluation!), name).toBeLessThan(tolerance);
    expect(Object.keys(results[name]!.weights)).toEqual(Object.keys(weights));
  }

  // ZeRO changes no bit, and divides the state.
  for (const [zero, whole] of zeros) {
    const { losses, evaluation, weights, memory, held } = results[zero]!;
    expect({ losses, evaluation, weights }).toEqual({
      losses: results[whole]!.losses,
      evaluation: results[whole]!.evaluation,
      weights: results[whole]!.weights,
    });
    const all = results[whole]!.memory[0]!;
    expect(memory.reduce((a, b) => a + b)).toBe(all);
    expect(Math.max(...memory)).toBeLessThan(0.6 * all);
    // The device has as much less as was computed.
    expect(held).toEqual(memory.map((bytes) => results[whole]!.held[0]! - (all - bytes)));
  }

  // Only the first process writes, and the state of all is in its files.
  expect(existsSync(path.join(folder, "zero", "lock"))).toBe(false);
  const states: Buffer[] = [];
  for (const name of ["zero", "gpt"]) {
    const [newest] = await listVersions(path.join(folder, name));
    states.push(readFileSync(path.join(newest!, "optimizer.safetensors")));
  }
  expect(states[0]!.equals(states[1]!)).toBe(true);

  const resumed = ["zero", "muon zero"] as const;
  const three = await together({ launcher, size: 3, task: "resume" }, place, resumed);
  for (const name of resumed) {
    const resume = await heed.loadCheckpoint(path.join(folder, name), { device });
    const single = await train(heed, runs[name], { resume, steps: 6, batchSize: 6 });
    expectClose(three[name]!.losses, single.losses, 1e-5, `${name} resumed by three`);
    expect(single.losses.length).toBe(4);
  }
}
