// ONNX Runtime on graphs of its own fused operators, in f32, because it has almost no bf16 kernels for the CPU.
import { createRequire } from "node:module";
import { closeSync, openSync, readSync } from "node:fs";
import { installed } from "./install.js";
import { type OnnxType, OnnxGraph } from "./onnx.js";
import { expectClose, load, noise, promptOf, serve, type Twins } from "./serve.js";

interface OrtTensor {
  data: Float32Array | BigInt64Array | Int32Array;
  dims: readonly number[];
}

interface Session {
  run(feeds: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}

interface Ort {
  Tensor: new (type: OnnxType, data: OrtTensor["data"], dims: readonly number[]) => OrtTensor;
  InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> };
}

const { default: ort } = await load<{ default: Ort }>("onnxruntime-node");
const dtypes = ["f32"];

function sessionOf(graph: OnnxGraph, threads: number): Promise<Session> {
  return ort.InferenceSession.create(graph.serialize(), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
}

const int64 = (values: readonly number[], dims: readonly number[]): OrtTensor =>
  new ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
const int32 = (values: readonly number[]): OrtTensor =>
  new ort.Tensor("int32", Int32Array.from(values), [values.length]);

type Entries = Record<string, { shape: number[]; data_offsets: [number, number] }>;

/** The tensors of a safetensors file in f32, as constants of a graph. */
class Weights {
  readonly #file: number;
  readonly #entries: Entries;
  readonly #begin: number;

  constructor(
    path: string,
    private readonly graph: OnnxGraph,
  ) {
    this.#file = openSync(path, "r");
    const length = Number(this.#bytes(0, 8).readBigUInt64LE());
    this.#begin = 8 + length;
    this.#entries = JSON.parse(this.#bytes(8, length).toString()) as Entries;
  }

  #bytes(position: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    readSync(this.#file, buffer, 0, length, position);
    return buffer;
  }

  constant(name: string): string {
    const { shape, data_offsets: offsets } = this.#entries[name]!;
    return this.graph.constant("float32", shape, this.#bytes(this.#begin + offsets[0], offsets[1] - offsets[0]));
  }

  /** Transposes a constant of two dimensions. ONNX Runtime does it once, when it reads the graph. */
  transposed(name: string): string {
    return this.graph.node("Transpose", [this.constant(name)], { perm: [1, 0] });
  }

  norm(x: string, name: string, epsilon: number): string {
    const inputs = [x, this.constant(`${name}.weight`), this.constant(`${name}.bias`)];
    return this.graph.node("LayerNormalization", inputs, { axis: -1, epsilon: { float: epsilon } });
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Builds GPT-2 with a KV cache: from ids and positions [B, T] and the caches to the next tokens [B] and the caches. */
function gptGraph(path: string, batch: number, layers: number, heads: number, size: number): OnnxGraph {
  const graph = new OnnxGraph();
  const weights = new Weights(path, graph);
  const ids = graph.input("ids", "int64", [batch, "T"]);
  const positions = graph.input("positions", "int64", [batch, "T"]);
  graph.input("lengths", "int32", [batch]); // number of keys that a query sees, less one
  graph.input("total", "int32", [1]);
  const table = weights.constant("wte.weight");
  const embed = [graph.node("Gather", [table, ids]), graph.node("Gather", [weights.constant("wpe.weight"), positions])];
  const linear = (x: string, name: string): string => {
    const product = graph.node("MatMul", [x, weights.constant(`${name}.weight`)]);
    return graph.node("Add", [product, weights.constant(`${name}.bias`)]);
  };
  let x = graph.node("Add", embed);
  for (let i = 0; i < layers; i++) {
    const qkv = linear(weights.norm(x, `h.${i}.ln_1`, 1e-5), `h.${i}.attn.c_attn`);
    const past = ["k", "v"].map((name) => graph.input(`${name}${i}`, "float32", [batch, heads, "P", size]));
    const outputs = [`y${i}`, `new_k${i}`, `new_v${i}`];
    // Queries, keys and values packed side by side are its first input.
    graph.nodes(
      "GroupQueryAttention",
      [qkv, "", "", ...past, "lengths", "total"],
      outputs,
      { num_heads: heads, kv_num_heads: heads },
      "com.microsoft",
    );
    for (const name of outputs.slice(1)) graph.output(name, "float32", [batch, heads, "S", size]);
    x = graph.node("Add", [x, linear(outputs[0]!, `h.${i}.attn.c_proj`)]);
    const up = linear(weights.norm(x, `h.${i}.ln_2`, 1e-5), `h.${i}.mlp.c_fc`);
    x = graph.node("Add", [x, linear(graph.node("Gelu", [up], { approximate: "tanh" }), `h.${i}.mlp.c_proj`)]);
  }
  const last = graph.constant("int64", [], BigInt64Array.of(-1n));
  const state = graph.node("Gather", [weights.norm(x, "ln_f", 1e-5), last], { axis: 1 }); // [B, C]
  const logits = graph.node("MatMul", [state, weights.transposed("wte.weight")]);
  graph.nodes("ArgMax", [logits], ["next"], { axis: -1, keepdims: 0 });
  graph.output("next", "int64", [batch]);
  weights.close();
  return graph;
}

class Gpt {
  #caches: Record<string, OrtTensor> = {};
  #length = 0;

  constructor(
    private readonly session: Session,
    private readonly layers: number,
    private readonly cacheShape: readonly number[],
  ) {}

  /** Empties the cache. */
  reset(): void {
    this.#length = 0;
    const names = Array.from({ length: this.layers }, (_, i) => [`k${i}`, `v${i}`]).flat();
    const empty = new ort.Tensor("float32", new Float32Array(0), this.cacheShape);
    this.#caches = Object.fromEntries(names.map((name) => [name, empty]));
  }

  /** Reads tokens of each sequence and returns the next token of each. */
  async next(tokens: readonly (readonly number[])[]): Promise<number[]> {
    const [batch, count] = [tokens.length, tokens[0]!.length];
    const total = this.#length + count;
    const positions = tokens.flatMap((row) => row.map((_, i) => this.#length + i));
    const results = await this.session.run({
      ...this.#caches,
      ids: int64(tokens.flat(), [batch, count]),
      positions: int64(positions, [batch, count]),
      lengths: int32(Array.from({ length: batch }, () => total - 1)),
      total: int32([total]),
    });
    for (const name of Object.keys(this.#caches)) this.#caches[name] = results[`new_${name}`]!;
    this.#length = total;
    return Array.from(results.next!.data as BigInt64Array, Number);
  }
}

async function gptOf(
  number: (name: string) => number,
  path: string,
  batch: number,
  threads: number,
): Promise<{ gpt: Gpt; release: () => Promise<void> }> {
  const [layers, heads] = [number("layers"), number("heads")];
  const size = number("width") / heads;
  const session = await sessionOf(gptGraph(path, batch, layers, heads, size), threads);
  return { gpt: new Gpt(session, layers, [batch, heads, 0, size]), release: () => session.release() };
}

const twins: Twins = {
  gemm: {
    dtypes,
    async prepare({ number, threads }) {
      const [m, k, n] = [number("m"), number("k"), number("n")];
      const graph = new OnnxGraph();
      const inputs = [graph.input("a", "float32", [m, k]), graph.input("b", "float32", [k, n])];
      graph.nodes("MatMul", inputs, ["c"]);
      graph.output("c", "float32", [m, n]);
      const session = await sessionOf(graph, threads);
      const [x, y] = [noise(m * k), noise(k * n)];
      const feeds = { a: new ort.Tensor("float32", x, [m, k]), b: new ort.Tensor("float32", y, [k, n]) };
      const { c } = await session.run(feeds);
      let sum = 0;
      for (let p = 0; p < k; p++) sum += x[(m - 1) * k + p]! * y[p * n + n - 1]!;
      expectClose("gemm", Number(c!.data.at(-1)), sum, 1e-3);
      return {
        run: async () => {
          await session.run(feeds);
        },
        release: () => session.release(),
      };
    },
  },
  attention: {
    dtypes,
    async prepare({ number, threads }) {
      const [batch, heads, length, size] = [number("batch"), number("heads"), number("length"), number("size")];
      if (number("backward")) throw new Error("no backward pass");
      const graph = new OnnxGraph();
      const shape = [batch, length, heads * size];
      const inputs = ["q", "k", "v"].map((name) => graph.input(name, "float32", shape));
      const options = { num_heads: heads, unidirectional: number("causal") };
      graph.nodes("MultiHeadAttention", inputs, ["y"], options, "com.microsoft");
      graph.output("y", "float32", shape);
      const session = await sessionOf(graph, threads);
      const values = noise(batch * length * heads * size);
      const input = new ort.Tensor("float32", values, shape);
      const feeds = { q: input, k: input, v: input };
      // This is the last number of the last query, which sees every key.
      const { y } = await session.run(feeds);
      const at = (t: number, d: number): number =>
        values[((batch - 1) * length + t) * heads * size + (heads - 1) * size + d]!;
      let [total, sum] = [0, 0];
      for (let t = 0; t < length; t++) {
        let score = 0;
        for (let d = 0; d < size; d++) score += at(length - 1, d) * at(t, d);
        const weight = Math.exp(score / Math.sqrt(size));
        total += weight;
        sum += weight * at(t, size - 1);
      }
      expectClose("attention", Number(y!.data.at(-1)), sum / total, 1e-4);
      return {
        run: async () => {
          await session.run(feeds);
        },
        release: () => session.release(),
      };
    },
  },
  decode: {
    dtypes,
    async prepare({ number, text, threads }) {
      const batch = number("batch");
      const { gpt, release } = await gptOf(number, text("weights"), batch, threads);
      const prompts = Array.from({ length: batch }, (_, b) => promptOf(b, number("prompt"), number("vocabulary")));
      const result: number[] = [];
      const run = async (): Promise<number> => {
        gpt.reset();
        result.length = 0;
        let tokens = await gpt.next(prompts);
        result.push(tokens.at(-1)!);
        const start = performance.now();
        for (let i = 1; i < number("count"); i++) {
          tokens = await gpt.next(tokens.map((token) => [token]));
          result.push(tokens.at(-1)!);
        }
        return performance.now() - start;
      };
      await run();
      return { run, result, release };
    },
  },
  prefill: {
    dtypes,
    async prepare({ number, text, threads }) {
      const { gpt, release } = await gptOf(number, text("weights"), 1, threads);
      const prompt = promptOf(0, number("prompt"), number("vocabulary"));
      const read = (): Promise<number[]> => {
        gpt.reset();
        return gpt.next([prompt]);
      };
      const result = await read();
      return {
        run: async () => {
          await read();
        },
        result,
        release,
      };
    },
  },
  encoder: {
    dtypes,
    async prepare({ number, text, threads }) {
      const [batch, length, heads] = [number("batch"), number("length"), number("heads")];
      const graph = new OnnxGraph();
      const weights = new Weights(text("weights"), graph);
      const dense = (x: string, name: string): string => {
        const product = graph.node("MatMul", [x, weights.transposed(`${name}.weight`)]);
        return graph.node("Add", [product, weights.constant(`${name}.bias`)]);
      };
      const gather = (name: string, index: readonly number[]): string =>
        graph.node("Gather", [
          weights.constant(`embeddings.${name}.weight`),
          graph.constant("int64", index.length === 1 ? [] : [index.length], BigInt64Array.from(index, BigInt)),
        ]);
      const ids = graph.input("ids", "int64", [batch, length]);
      const words = graph.node("Gather", [weights.constant("embeddings.word_embeddings.weight"), ids]);
      const positions = gather(
        "position_embeddings",
        Array.from({ length }, (_, i) => i),
      );
      const kinds = gather("token_type_embeddings", [0]);
      const placed = graph.node("Add", [words, graph.node("Add", [positions, kinds])]);
      let x = weights.norm(placed, "embeddings.LayerNorm", 1e-12);
      for (let i = 0; i < number("layers"); i++) {
        const name = `encoder.layer.${i}`;
        const parts = ["query", "key", "value"].map((part) => dense(x, `${name}.attention.self.${part}`));
        const y = graph.node("MultiHeadAttention", parts, { num_heads: heads }, "com.microsoft");
        const sum = graph.node("Add", [x, dense(y, `${name}.attention.output.dense`)]);
        x = weights.norm(sum, `${name}.attention.output.LayerNorm`, 1e-12);
        const hidden = graph.node("Gelu", [dense(x, `${name}.intermediate.dense`)]);
        const next = graph.node("Add", [x, dense(hidden, `${name}.output.dense`)]);
        x = weights.norm(next, `${name}.output.LayerNorm`, 1e-12);
      }
      graph.nodes("Identity", [x], ["states"]);
      graph.output("states", "float32", [batch, length, number("width")]);
      weights.close();
      const session = await sessionOf(graph, threads);
      const tokens = promptOf(0, batch * length, number("vocabulary"));
      const feeds = { ids: int64(tokens, [batch, length]) };
      const { states } = await session.run(feeds);
      const result = Array.from((states!.data as Float32Array).slice(-number("width"), 8 - number("width")));
      return {
        run: async () => {
          await session.run(feeds);
        },
        result,
        release: () => session.release(),
      };
    },
  },
};
const { version } = createRequire(`${installed}/package.json`)("onnxruntime-node/package.json") as { version: string };
await serve(version, twins);
