/**
 * node build/bench/peers/llama-batches.js [--models stories260K,gpt2] [--sequences 8,32] compares llama.cpp with itself.
 *
 * Prompts are sequences of one context, and then each has a context of its own. The program prints how many sequences get
 * other tokens, and how far the logarithms of probabilities differ as long as the text is the same: with one thread in
 * Node.js's pool, which reads the logits of one sequence after the other, and with four, the default, which read those of
 * several sequences at the same time (llama-environment.ts).
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { removeModels } from "../models.js";
import { llamaFile, type ModelName, servingModels, writeLlamaFile } from "../serving/models.js";
import { install } from "./install.js";
import { load, promptOf } from "./serve.js";

interface Sequence {
  evaluateWithMetadata(
    tokens: readonly number[],
    metadata: { probabilities: true },
    options: object,
  ): AsyncIterable<Step>;
}

interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

interface LlamaModel {
  createContext(options: object): Promise<Context>;
}

interface NodeLlama {
  getLlama: (options: object) => Promise<{ loadModel(options: { modelPath: string }): Promise<LlamaModel> }>;
}

interface Step {
  token: number;
  probabilities: Map<number, number>;
}

const [promptLength, count] = [64, 17];
const { values: flags } = parseArgs({
  options: {
    models: { type: "string", default: "stories260K,gpt2" },
    sequences: { type: "string", default: "8,32" },
    // These are for the processes that this one starts.
    model: { type: "string" },
  },
});

const own = flags.model as ModelName | undefined;
await (own ? compare(own, flags.sequences.split(",").map(Number)) : compareAll());

/** Runs the comparison in a process for each model and each size of the pool, which Node.js reads when it starts. */
async function compareAll(): Promise<void> {
  const problem = install();
  if (problem) throw new Error(problem);
  console.log("model, sequences, threads of the pool: sequences with other tokens, largest difference of log p");
  for (const model of flags.models.split(",")) {
    await writeLlamaFile(model as ModelName, "f32");
    for (const threads of ["1", "4"])
      spawnSync(process.execPath, [fileURLToPath(import.meta.url), "--model", model, "--sequences", flags.sequences], {
        env: { ...process.env, UV_THREADPOOL_SIZE: threads },
        stdio: ["ignore", "inherit", "ignore"],
      });
  }
  removeModels();
}

async function compare(name: ModelName, sizes: readonly number[]): Promise<void> {
  const { getLlama } = await load<NodeLlama>("node-llama-cpp");
  const llama = await getLlama({ build: "never", gpu: false, logLevel: "error", maxThreads: 2 });
  const model = await llama.loadModel({ modelPath: llamaFile(name, "f32") });
  const generated = async (prompts: readonly number[][]): Promise<Step[][]> => {
    const room = { contextSize: promptLength + count + 8, batchSize: Math.max(512, promptLength * prompts.length) };
    const context = await model.createContext({ ...room, sequences: prompts.length, threads: 2 });
    const sequences = prompts.map(() => context.getSequence());
    const steps = await Promise.all(sequences.map((sequence, i) => stepsOf(sequence, prompts[i]!)));
    await context.dispose();
    return steps;
  };
  for (const size of sizes) {
    const prompts = Array.from({ length: size }, (_, i) => promptOf(i, promptLength, servingModels[name].vocabulary));
    const together = await generated(prompts);
    let [others, furthest] = [0, 0];
    for (const [i, prompt] of prompts.entries()) {
      const [alone] = await generated([prompt]);
      const differing = alone!.findIndex(({ token }, at) => token !== together[i]![at]!.token);
      if (differing >= 0) others++;
      // The first step that has another token is compared too: its text is still the same.
      for (const [at, step] of alone!.slice(0, differing < 0 ? count : differing + 1).entries())
        furthest = Math.max(furthest, differenceOf(step, together[i]![at]!));
    }
    const pool = process.env.UV_THREADPOOL_SIZE;
    console.log(`${name}, ${size}, ${pool}: ${others} of ${size}, ${furthest.toPrecision(2)}`);
  }
  process.exit(); // llama.cpp may have left threads
}

async function stepsOf(sequence: Sequence, prompt: readonly number[]): Promise<Step[]> {
  const steps: Step[] = [];
  const options = { temperature: 0, yieldEogToken: true };
  for await (const { token, probabilities } of sequence.evaluateWithMetadata(
    prompt,
    { probabilities: true },
    options,
  )) {
    steps.push({ token, probabilities });
    if (steps.length === count) break;
  }
  return steps;
}

/** Returns the largest difference of the logarithms of the probabilities of a token. */
function differenceOf(a: Step, b: Step): number {
  let furthest = 0;
  for (const [token, p] of a.probabilities)
    furthest = Math.max(furthest, Math.abs(Math.log(p) - Math.log(b.probabilities.get(token)!)));
  return furthest;
}
