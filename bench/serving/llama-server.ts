// llama.cpp through node-llama-cpp, which computes the sequences of one context together.
import { readFileSync } from "node:fs";
import { installed } from "../peers/install.js";
import { load } from "../peers/serve.js";
import type { Server } from "./drive.js";
import { type ServerOptions } from "./heed-server.js";
import type { ServingRequest } from "./load.js";
import { llamaFile, servingModels } from "./models.js";

interface LlamaSequence {
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
  clearHistory(): Promise<void>;
}

interface LlamaContext {
  getSequence(): LlamaSequence;
  dispose(): Promise<void>;
}

interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>;
  dispose(): Promise<void>;
}

interface NodeLlama {
  getLlama(options: object): Promise<{ loadModel(options: { modelPath: string }): Promise<LlamaModel> }>;
}

/** Returns the version of node-llama-cpp that is installed. */
export function llamaVersion(): string {
  const file = `${installed}/node_modules/node-llama-cpp/package.json`;
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

/** A context of llama.cpp with as many sequences as requests run at the same time. */
export class LlamaServer implements Server {
  readonly device = null;
  readonly #free: LlamaSequence[];
  readonly #waiting: ((sequence: LlamaSequence) => void)[] = [];

  private constructor(
    private readonly model: LlamaModel,
    private readonly context: LlamaContext,
    sequences: number,
    readonly vocabulary: number,
  ) {
    this.#free = Array.from({ length: sequences }, () => context.getSequence());
  }

  static async start({ model: name, format, threads, sequences, length }: ServerOptions): Promise<LlamaServer> {
    const nodeLlama = await load<NodeLlama>("node-llama-cpp");
    const llama = await nodeLlama.getLlama({ build: "never", gpu: false, logLevel: "error", maxThreads: threads });
    const model = await llama.loadModel({ modelPath: llamaFile(name, format) });
    // llama.cpp shifts a context that is full, so there is room for one more token.
    // 512 tokens are the default of both libraries.
    const options = { contextSize: length + 8, sequences, threads, batchSize: 512 };
    return new LlamaServer(model, await model.createContext(options), sequences, servingModels[name].vocabulary);
  }

  async *answer({ tokens, maxTokens }: ServingRequest, signal?: AbortSignal): AsyncGenerator<number> {
    const sequence = this.#free.pop() ?? (await new Promise<LlamaSequence>((resolve) => this.#waiting.push(resolve)));
    try {
      await sequence.clearHistory();
      let made = 0;
      for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        yield token;
        if (++made === maxTokens || signal?.aborted) return;
      }
    } finally {
      const next = this.#waiting.shift();
      if (next) next(sequence);
      else this.#free.push(sequence);
    }
  }

  async close(): Promise<void> {
    await this.context.dispose();
    await this.model.dispose();
  }
}
