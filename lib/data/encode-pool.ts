// Encodes blocks in worker threads. What is encoded does not depend on their number.
import { Worker } from "node:worker_threads";
import { type ErrorCode, HeedError } from "../errors.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { Block } from "./blocks.js";
import { BlockEncoder, type EncodedBlock, type EncodingSettings } from "./encode-block.js";

/** Answer of a worker. */
export type EncodeAnswer = { id: number; encoded: EncodedBlock } | { id: number; code: ErrorCode; message: string };

interface Waiting {
  resolve: (encoded: EncodedBlock) => void;
  reject: (error: unknown) => void;
}

/** Thread with the blocks that it encodes. If it has failed, it gets no more. */
interface Thread {
  thread: Worker;
  waiting: Map<number, Waiting>;
  failed: Error | null;
}

/** Threads that encode blocks. Without threads, the calling thread encodes them. */
export class EncodePool {
  readonly #own: BlockEncoder | null;
  readonly #workers: Thread[];
  #next = 0;

  constructor(tokenizer: Tokenizer, settings: EncodingSettings, threads: number) {
    this.#own = threads === 0 ? new BlockEncoder(tokenizer, settings) : null;
    const workerData = { tokenizer: tokenizer.toJSON(), settings };
    this.#workers = Array.from({ length: threads }, () => start(workerData));
  }

  /** Number of blocks that should be given to the pool before the first one is awaited. */
  get depth(): number {
    // A thread has a block to go on with while the caller writes the one before.
    return this.#own ? 1 : 2 * this.#workers.length + 1;
  }

  /** Resolves to the tokens of a block. Its bytes may be gone afterwards. */
  async encode(block: Block): Promise<EncodedBlock> {
    if (this.#own) return this.#own.encode(block);
    const { thread, waiting, failed } = this.#workers.reduce((a, b) => (b.waiting.size < a.waiting.size ? b : a));
    if (failed) throw failed;
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      thread.postMessage({ id, block }, block.kind === "rows" ? [] : [block.bytes.buffer as ArrayBuffer]);
    });
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map(({ thread }) => thread.terminate()));
  }
}

function start(workerData: unknown): Thread {
  const waiting = new Map<number, Waiting>();
  // A thread does not take the flags of its process, such as those of `node --input-type=module -e`.
  const thread = new Worker(new URL("./encode-worker.js", import.meta.url), { workerData, execArgv: [] });
  const started: Thread = { thread, waiting, failed: null };
  const fail = (error: Error): void => {
    started.failed ??= error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  thread.on("message", (answer: EncodeAnswer) => {
    const { resolve, reject } = waiting.get(answer.id)!;
    waiting.delete(answer.id);
    if ("encoded" in answer) resolve(answer.encoded);
    else reject(new HeedError(answer.code, answer.message));
  });
  thread.on("error", fail);
  thread.on("exit", (code) =>
    fail(new HeedError("ERR_INTERNAL", `data: expected a thread to run, got its exit ${code}`)),
  );
  return started;
}
