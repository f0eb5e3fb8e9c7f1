// What is timed: heed with activations in two precisions, and programs of llama.cpp and of its fork. All read the same file.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { argmax, Engine, generateTokens, type GgufModel, noGrad, scope, tensor } from "heed";
import { Clock } from "../clock.js";
import type { Contender } from "../turns.js";
import { verifyTokens } from "../verify-tokens.js";

/** Work that is timed. */
export type Task =
  | { name: "prefill"; prompt: number }
  | { name: "decode"; count: number }
  | { name: "callers"; callers: number; prompt: number; count: number };

/** Returns the number of tokens whose time is measured: those of the prompt, or those that are generated. */
export function tokensOf(task: Task): number {
  if (task.name === "callers") return task.callers * task.count;
  return task.name === "prefill" ? task.prompt : task.count;
}

/** Bits to which heed rounds activations that meet weights in blocks. */
export type Bits = 16 | 8;

/** Largest distance of a token's logit from the highest one, since activations are rounded: the logits are some units. */
const margins: Record<Bits, number> = { 16: 1e-2, 8: 0.5 };

type Model = GgufModel["model"];

/** Returns tokens that look random, and other ones for each caller. */
function promptOf(caller: number, length: number, vocabulary: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => ((caller * length + i + 1) * 7919) % vocabulary);
}

/** Throws unless the tokens that the model generates are those of one pass over the whole text, without a cache. */
export async function verify(model: Model, bits: Bits): Promise<void> {
  model.roundActivations(bits);
  const prompt = promptOf(0, 16, model.config.vocabularySize);
  const [result] = await generateTokens(model, [prompt], { maxTokens: 8, temperature: 0, stopTokens: [] });
  await verifyTokens(model, prompt, result!.tokens, margins[bits]);
}

/** Returns heed as a contender that rounds activations to `bits`. */
export function heed(name: string, model: Model, bits: Bits, task: Task): Contender {
  const { vocabularySize: vocabulary } = model.config;
  const greedy = { temperature: 0, stopTokens: [] };
  if (task.name === "callers") {
    const once = async (): Promise<number> => {
      model.roundActivations(bits);
      // llama.cpp keeps keys and values in f16, too.
      const kvType = bits === 8 ? "f16" : null;
      await using engine = new Engine(model, { maxSequences: task.callers, kvType });
      const start = performance.now();
      const answers = Array.from({ length: task.callers }, (_, i) =>
        engine.generate({ tokens: promptOf(i, task.prompt, vocabulary), maxTokens: task.count, ...greedy }),
      );
      for (const { tokens } of await Promise.all(answers))
        if (tokens.length !== task.count) throw new Error(`expected ${task.count} tokens, got ${tokens.length}`);
      return performance.now() - start;
    };
    return { name, time: (_, least) => repeated(once, least) };
  }
  const prefill = async (tokens: Int32Array): Promise<void> => {
    using cache = model.createCache(1, tokens.length);
    using ids = tensor(tokens, [1, tokens.length], { device: model.device });
    using next = noGrad(() => scope(() => argmax(model.forward(ids, { cache, lastOnly: true }))));
    await next.data();
  };
  const decode = async (count: number): Promise<number> => {
    let [start, end] = [0, 0];
    const onToken = (): void => {
      end = performance.now();
      start ||= end;
    };
    await generateTokens(model, [[1]], { maxTokens: count + 1, onToken, ...greedy });
    return end - start;
  };
  const prompt = task.name === "prefill" ? promptOf(0, task.prompt, vocabulary) : null;
  const clock = new Clock(async () => {
    model.roundActivations(bits);
    if (task.name === "decode") return decode(task.count);
    const start = performance.now();
    await prefill(prompt!);
    return performance.now() - start;
  });
  return { name, time: (seconds, least) => clock.times(seconds, least) };
}

async function repeated(once: () => Promise<number>, times: number): Promise<number[]> {
  const results: number[] = [];
  for (let i = 0; i < times; i++) results.push(await once());
  return results;
}

/** llama.cpp, or a fork of it whose programs have the same names and answers. */
export interface LlamaPrograms {
  name: string;
  /** Variable that names the folder of `llama-bench` and `llama-batched-bench`. */
  variable: string;
}

export const programs: readonly LlamaPrograms[] = [
  { name: "llama.cpp", variable: "HEED_LLAMA_PROGRAMS" },
  { name: "ik_llama.cpp", variable: "HEED_IK_LLAMA_PROGRAMS" },
];

const run = promisify(execFile);

interface LlamaBenchResult {
  build_commit: string;
  build_number: number;
  samples_ns: number[];
}

async function llamaBench(folder: string, args: readonly string[]): Promise<LlamaBenchResult> {
  const { stdout } = await run(path.join(folder, "llama-bench"), [...args, "-o", "json"], { maxBuffer: 2 ** 26 });
  return (JSON.parse(stdout) as LlamaBenchResult[])[0]!;
}

/** Returns the folder of the programs and the version that they say. Throws with the reason if there are none. */
export async function found({ variable }: LlamaPrograms, file: string): Promise<{ folder: string; version: string }> {
  const folder = process.env[variable];
  if (!folder) throw new Error(`${variable} does not name a folder with its programs`);
  for (const program of ["llama-bench", "llama-batched-bench"])
    if (!existsSync(path.join(folder, program))) throw new Error(`${folder} has no ${program}`);
  const { build_commit, build_number } = await llamaBench(folder, ["-m", file, "-p", "1", "-n", "0", "-r", "1"]);
  return { folder, version: `${build_number} (${build_commit})` };
}

/** Returns the programs in a folder as a contender. */
export function llama(name: string, folder: string, file: string, task: Task, threads: number): Contender {
  const shared = ["-m", file, "-t", String(threads)];
  if (task.name === "callers") {
    const { callers, prompt, count } = task;
    const room = callers * (prompt + count);
    const sizes = ["-c", String(room), "-b", "2048", "-ub", "512", "-npp", String(prompt), "-ntg", String(count)];
    const once = async (): Promise<number> => {
      const args = [...shared, ...sizes, "-npl", String(callers)];
      const { stdout, stderr } = await run(path.join(folder, "llama-batched-bench"), args, { maxBuffer: 2 ** 26 });
      return batchedMilliseconds(`${stdout}\n${stderr}`, callers);
    };
    return { name, time: (_, least) => repeated(once, least) };
  }
  const sizes =
    task.name === "prefill" ? ["-p", String(task.prompt), "-n", "0"] : ["-p", "0", "-n", String(task.count)];
  return {
    name,
    time: async (_, least) => {
      const { samples_ns } = await llamaBench(folder, [...shared, ...sizes, "-r", String(least)]);
      return samples_ns.map((ns) => ns / 1e6);
    },
  };
}

/** Returns the milliseconds of the row of llama-batched-bench's table that has as many sequences. */
export function batchedMilliseconds(printed: string, callers: number): number {
  for (const line of printed.split("\n")) {
    // | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |
    const cells = line.split("|").map((cell) => Number(cell.trim() || NaN));
    if (cells[3] === callers && cells[9]! > 0) return cells[9]! * 1000;
  }
  throw new Error(`expected a row of ${callers} sequences, got ${JSON.stringify(printed.slice(-300))}`);
}
