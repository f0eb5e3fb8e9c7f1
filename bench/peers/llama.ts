// llama.cpp through node-llama-cpp, which reads GGUF files that heed wrote.
import { readFileSync } from "node:fs";
import { installed } from "./install.js";
import { load, promptOf, serve, type Twins } from "./serve.js";

interface LlamaSequence {
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
  clearHistory(): Promise<void>;
}

interface Context {
  getSequence(): LlamaSequence;
  dispose(): Promise<void>;
}

interface LlamaModel {
  createContext(options: object): Promise<Context>;
  dispose(): Promise<void>;
}

interface Llama {
  loadModel(options: { modelPath: string }): Promise<LlamaModel>;
}

const { getLlama } = await load<{ getLlama: (options: object) => Promise<Llama> }>("node-llama-cpp");
const llama = await getLlama({ build: "never", gpu: false, logLevel: "error", maxThreads: Number(process.argv[2]) });

const formats = { f32: "f32", bf16: "bf16", int8: "q8_0", int4: "q4_0" };
const dtypes = Object.keys(formats);

/** Returns a context of a case's model, and a function that frees both. */
async function contextOf(file: string, dtype: string, sequences: number, length: number, threads: number) {
  const model = await llama.loadModel({ modelPath: `${file}-${formats[dtype as keyof typeof formats]}.gguf` });
  const batchSize = Math.max(512, sequences * 64);
  const context = await model.createContext({ contextSize: length, sequences, threads, batchSize });
  const release = async (): Promise<void> => {
    await context.dispose();
    await model.dispose();
  };
  return { context, release };
}

const twins: Twins = {
  decode: {
    dtypes,
    async prepare({ number, text, dtype, threads }) {
      const [batch, prompt, count] = [number("batch"), number("prompt"), number("count")];
      const length = prompt + count + 8;
      const { context, release } = await contextOf(text("gguf"), dtype, batch, length, threads);
      const sequences = Array.from({ length: batch }, () => context.getSequence());
      const result: number[] = [];
      const run = async (): Promise<number> => {
        for (const sequence of sequences) await sequence.clearHistory();
        result.length = 0;
        let [start, end] = [0, 0];
        const generate = async (sequence: LlamaSequence, b: number): Promise<void> => {
          const options = { temperature: 0, yieldEogToken: true };
          let made = 0;
          for await (const token of sequence.evaluate(promptOf(b, prompt, number("vocabulary")), options)) {
            // The clock starts when the last sequence has its first token, since the others wait for it.
            if (++made === 1) start = performance.now();
            if (b === batch - 1) result.push(token);
            if (made === count) break;
          }
          end = performance.now();
        };
        await Promise.all(sequences.map(generate));
        return end - start;
      };
      await run();
      return { run, result, release };
    },
  },
  prefill: {
    dtypes,
    async prepare({ number, text, dtype, threads }) {
      const prompt = promptOf(0, number("prompt"), number("vocabulary"));
      const { context, release } = await contextOf(text("gguf"), dtype, 1, prompt.length + 8, threads);
      const sequence = context.getSequence();
      const read = async (): Promise<number> => {
        await sequence.clearHistory();
        for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) return token;
        throw new Error("no token");
      };
      const result = [await read()];
      return {
        run: async () => {
          await read();
        },
        result,
        release,
      };
    },
  },
};
const { version } = JSON.parse(readFileSync(`${installed}/node_modules/node-llama-cpp/package.json`, "utf8")) as {
  version: string;
};
await serve(version, twins);
