// How near a row is to what the machine can do: the memory that its weights are read from, or the cores that multiply by them.
import type { LlamaConfig } from "heed";
import type { Peaks } from "../peaks.js";
import type { Task } from "./contenders.js";

/** Bytes and operations that a task needs for the weights. */
export interface Work {
  /** Bytes of the weights that are read for each token of a sequence that is alone. */
  bytes: number;
  /** Multiplications and additions of all tokens. */
  products: number;
}

/** Returns the work of a task with a model in a file of so many bytes. */
export function workOf(config: LlamaConfig, task: Task, bytes: number): Work {
  const { width, feedForwardWidth: hidden, heads, layers, vocabularySize } = config;
  const [kvHeads, headSize] = [config.kvHeads ?? heads, config.headSize ?? width / heads];
  const layer = width * headSize * (2 * heads + 2 * kvHeads) + 3 * width * hidden;
  const head = vocabularySize * width;
  const [sequences, read, generated] =
    task.name === "prefill"
      ? [1, task.prompt - 1, 1]
      : task.name === "decode"
        ? [1, 0, task.count]
        : [task.callers, task.prompt - 1, task.count];
  return { bytes, products: 2 * sequences * ((read + generated) * layers * layer + generated * head) };
}

/** Machine of a run, bytes to which an activation is cut (null if floats are multiplied), and peaks. */
interface Means {
  machine: string;
  digits: number | null;
  peaks: Peaks;
}

/**
 * Returns how much of a peak of the machine a task uses, in words; null if the peak is not known. Bytes are multiplied where
 * the instruction set that the machine's name says has vectors of them.
 */
export function boundOf(task: Task, { bytes, products }: Work, ms: number, means: Means): string | null {
  const { machine, peaks } = means;
  const share = (part: number, of: number): string => `${Math.round((100 * part) / of)} %`;
  if (task.name === "decode") {
    const read = (bytes * task.count) / ms / 1e6;
    return `reads ${read.toFixed(1)} GB of weights a second, ${share(read, peaks.read)} of what the memory gives (${peaks.read.toFixed(1)})`;
  }
  // No loop measures what the matrix unit can reach.
  if (machine.includes("amx")) return null;
  const digits = /avx2|avx512(vnni|bf16)/.test(machine) ? means.digits : null;
  // AVX2 has two digits in one number of 16 bits.
  const words = machine.includes("avx2") && digits === 2;
  const peak = digits === null ? peaks.f32 : words ? peaks.words : peaks.bytes;
  if (peak === undefined) return null;
  const done = ((words ? 1 : (digits ?? 1)) * products) / ms / 1e6;
  const inBytes = digits === 1 ? "bytes" : `bytes, ${digits} for each activation`;
  const what = digits === null ? "floats" : words ? "numbers of 16 bits" : inBytes;
  const rest =
    task.name === "callers" ? "; attention, its pages and the rest of a step take their time beside the products" : "";
  return `does ${Math.round(done)}·10⁹ operations a second with ${what}, ${share(done, peak)} of what the cores can do (${Math.round(peak)})${rest}`;
}
