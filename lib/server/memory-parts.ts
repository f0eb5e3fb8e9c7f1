// What the memory of the process consists of, in numbers whose sum is about what the system says that it takes.
import { readFileSync } from "node:fs";
import { device } from "../core/device.js";
import type { ServedModels } from "./served-models.js";

/** Bytes of memory of the process, by what they are for. */
export interface MemoryParts {
  /** Weights of the models on the CPU. */
  weights: number;
  /** Keys and values on the CPU that the system has given memory for. */
  keysAndValues: number;
  /** Other tensors on the CPU, and memory that is kept for such. */
  work: number;
  /** Objects and buffers of JavaScript. */
  heap: number;
  /** The program, its libraries, and what it had taken besides when the server began. */
  program: number;
}

/** Measures the memory of the process of a server. */
export class MemoryMeter {
  readonly #models: ServedModels;
  readonly #program: number;

  constructor(models: ServedModels) {
    this.#models = models;
    this.#program = Math.max(0, process.memoryUsage.rss() - mappedBytes() - tensorBytes() - heapBytes());
  }

  /** Returns the parts now. */
  read(): MemoryParts {
    const onCpu = this.#models.summaries.filter((one) => one.device === "cpu");
    const weights = onCpu.reduce((sum, { weightsBytes }) => sum + weightsBytes, 0);
    const engines = this.#models.metrics().filter(({ id }) => onCpu.some((one) => one.id === id));
    const allocated = engines.reduce((sum, { metrics }) => sum + metrics.kvBytes, 0);
    return {
      weights,
      keysAndValues: engines.reduce((sum, { metrics }) => sum + metrics.kvResident, 0),
      work: Math.max(0, tensorBytes() - weights - allocated),
      heap: heapBytes(),
      program: this.#program + mappedBytes(),
    };
  }
}

/** Returns the bytes of tensors on the CPU, and of what is kept for further ones. */
function tensorBytes(): number {
  const { live, cached, unbacked } = device("cpu").memory();
  return live + cached - unbacked;
}

/** Returns the bytes of files that are mapped: code, mostly. Systems other than Linux do not tell. */
function mappedBytes(): number {
  try {
    return 1024 * Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function heapBytes(): number {
  const { heapTotal, arrayBuffers } = process.memoryUsage();
  return heapTotal + arrayBuffers;
}
