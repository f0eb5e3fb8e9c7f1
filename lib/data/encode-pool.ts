// Encodes blocks in worker threads. What is encoded does not depend on their number.
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { WorkerThread } from "../util/worker-thread.js";
import type { Block } from "./blocks.js";
import { BlockEncoder, type EncodedBlock, type EncodingSettings } from "./encode-block.js";

/** Threads that encode blocks. Without threads, the calling thread encodes them. */
export class EncodePool {
  readonly #own: BlockEncoder | null;
  readonly #workers: WorkerThread<Block, EncodedBlock>[];

  constructor(tokenizer: Tokenizer, settings: EncodingSettings, threads: number) {
    this.#own = threads === 0 ? new BlockEncoder(tokenizer, settings) : null;
    const worker = new URL("./encode-worker.js", import.meta.url);
    const workerData = { tokenizer: tokenizer.toJSON(), settings };
    this.#workers = Array.from({ length: threads }, () => new WorkerThread(worker, workerData));
  }

  /** Number of blocks that should be given to the pool before the first one is awaited. */
  get depth(): number {
    // A thread has a block to go on with while the caller writes the one before.
    return this.#own ? 1 : 2 * this.#workers.length + 1;
  }

  /** Resolves to the tokens of a block. Its bytes may be gone afterwards. */
  async encode(block: Block): Promise<EncodedBlock> {
    if (this.#own) return this.#own.encode(block);
    const thread = this.#workers.reduce((a, b) => (b.waiting < a.waiting ? b : a));
    return thread.run(block, block.kind === "rows" ? [] : [block.bytes.buffer as ArrayBuffer]);
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((thread) => thread.terminate()));
  }
}
