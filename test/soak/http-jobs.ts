/**
 * Work of a server's process that needs its disk: batches of requests, one after another, and a model that is saved again
 * and again. A process that continues the work of one that was killed checks what it finds.
 */
import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GPT, HeedError, type LanguageModel, load, savePretrained } from "heed";
import { runBatch } from "heed/server";
import { answersIn, batchesIn, batchName, requestsOf } from "./http-disk.js";
import type { Question, Report } from "./http-settings.js";

/** Numbers of saved models. All weights of each are its number. */
type Saved = number;

export class DiskWork {
  #batch: number;
  readonly #model = new GPT(
    { vocabularySize: 8, contextLength: 8, layers: 1, heads: 1, width: 8 },
    { device: "cpu", seed: 1 },
  );

  private constructor(
    private readonly folder: string,
    /** Model of the batches, which no server serves, and what it says. */
    private readonly speaker: LanguageModel,
    private readonly questions: readonly Question[],
    /** Number of the last model that was saved. */
    public saved: Saved,
    private readonly report: (report: Report) => void,
  ) {
    this.#batch = Math.max(1, ...batchesIn(folder));
  }

  /** Continues the work in a folder, which may be new. Throws if the model that an earlier process saved is not whole. */
  static async open(
    folder: string,
    speaker: LanguageModel,
    questions: readonly Question[],
    report: (report: Report) => void,
  ): Promise<DiskWork> {
    await mkdir(folder, { recursive: true });
    writeFileSync(path.join(folder, "in.jsonl"), requestsOf(questions));
    return new DiskWork(folder, speaker, questions, await savedIn(path.join(folder, "model")), report);
  }

  /**
   * Works until the signal is aborted. Work that fails because the disk is full says so by ERR_IO and the name of a file,
   * changes nothing that was there, and is done again.
   */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#repeat(signal, () => this.#answer(signal)), this.#repeat(signal, () => this.#save())]);
  }

  async #repeat(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      try {
        await work();
      } catch (error) {
        if (signal.aborted && error === signal.reason) return;
        const full = error instanceof HeedError && error.code === "ERR_IO";
        ok(full && error.message.startsWith(this.folder), `expected an error of the disk, got ${String(error)}`);
        this.report({ failed: error.message });
      }
      await sleep(5);
    }
  }

  /** Answers all requests of a batch, of which an earlier run may have answered some. */
  async #answer(signal: AbortSignal): Promise<void> {
    const number = this.#batch;
    const file = (name: string): string => path.join(this.folder, name);
    const output = file(batchName(number));
    const { total, failed } = await runBatch(file("in.jsonl"), output, {
      ...{ models: { cpu: this.speaker }, concurrency: 3, signal },
      engine: { maxSequences: 4, pageSize: 8 },
    });
    strictEqual(failed, 0, "requests of a batch have failed");
    strictEqual(answersIn(output, this.questions).length, total, "a batch that has ended has too few answers");
    this.#batch++;
    // The last ones stay, so that the other process can look at them.
    for (const old of batchesIn(this.folder)) if (old < number - 1) rmSync(file(batchName(old)));
  }

  async #save(): Promise<void> {
    const number = this.saved + 1;
    const folder = path.join(this.folder, "model");
    for (const parameter of this.#model.parameters()) parameter.set(new Float32Array(parameter.size).fill(number));
    try {
      // Several files, so that a process is killed between two of them.
      await savePretrained(folder, this.#model, { overwrite: true, shardBytes: 1000 });
    } catch (error) {
      strictEqual(await savedIn(folder), this.saved, "a model that could not be saved has changed another");
      throw error;
    }
    this.saved = number;
    this.report({ saved: number });
  }
}

/** Resolves to the number of the model in a folder; 0 if there is none. Throws if it is not whole. */
async function savedIn(folder: string): Promise<Saved> {
  const there = await Promise.resolve()
    .then(() => readdirSync(folder))
    .catch(() => []);
  if (there.length === 0) return 0;
  using loaded = await load(folder, { kind: "causal", device: "cpu" });
  const parts = await Promise.all(loaded.model.parameters().map((parameter) => parameter.data()));
  const numbers = new Set(parts.flatMap((part) => [...part]));
  deepStrictEqual(numbers.size, 1, `a saved model is a mix of ${[...numbers].join(", ")}`);
  return [...numbers][0]!;
}
