import { type CausalDecoder, type Device, Engine, type EngineOptions } from "heed";
import type { Server } from "./drive.js";
import type { ServingRequest } from "./load.js";
import { createModel, type Format, type ModelName } from "./models.js";

/** Model of a server, and the size of the requests that it has room for. */
export interface ServerOptions {
  model: ModelName;
  format: Format;
  device: string;
  threads: number;
  /** Most requests that run at the same time. */
  sequences: number;
  /** Most tokens of a request and its answer. */
  length: number;
}

/** Tokens of a page of keys and values. */
export const pageSize = 64;

/** heed's engine. */
export class HeedServer implements Server {
  private constructor(
    readonly model: CausalDecoder,
    readonly engine: Engine,
  ) {}

  static async start(options: ServerOptions): Promise<HeedServer> {
    const model = await createModel(options.model, options.format, options.device);
    return new HeedServer(model, new Engine(model, engineOptions(model, options)));
  }

  get vocabulary(): number {
    return this.model.config.vocabularySize;
  }

  get device(): Device {
    return this.model.device;
  }

  async *answer({ tokens, maxTokens }: ServingRequest, signal?: AbortSignal): AsyncGenerator<number> {
    for await (const event of this.engine.generate({ tokens, maxTokens, temperature: 0, signal }))
      for (const token of event.tokens) yield token;
  }

  async close(): Promise<void> {
    await this.engine.close();
    this.model.dispose();
  }
}

/** Returns the options of an engine with room for the requests. */
export function engineOptions(model: CausalDecoder, { sequences, length }: ServerOptions): EngineOptions {
  return { maxSequences: sequences, pageSize, kvMemory: kvMemory(model, sequences, length) };
}

/** Returns the bytes for the keys and values of this many sequences; one of the whole context must fit. */
function kvMemory({ config, dtype }: CausalDecoder, sequences: number, length: number): number {
  const { layers, heads, width, contextLength } = config;
  const { kvHeads = heads, headSize = width / heads } = config as { kvHeads?: number; headSize?: number };
  const token = 2 * layers * kvHeads * headSize * (dtype === "f32" ? 4 : 2);
  const pages = Math.max(Math.ceil(contextLength / pageSize), sequences * Math.ceil(length / pageSize));
  return token * pageSize * pages;
}
