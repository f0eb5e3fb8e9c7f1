// TensorFlow.js on its WebAssembly back end, which uses SIMD.
import { expectClose, load, noise, serve, type Twins } from "./serve.js";
import path from "node:path";
import { createRequire } from "node:module";
import { installed } from "./install.js";

interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}

interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor(values: Float32Array, shape: readonly number[]): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
  add(a: TfTensor, b: TfTensor): TfTensor;
}

interface WasmBackend {
  setWasmPaths(folder: string): void;
  setThreadsCount(count: number): void;
  getThreadsCount(): number;
}

const tf = await load<TensorFlow>("@tensorflow/tfjs-core");
const wasm = await load<WasmBackend>("@tensorflow/tfjs-backend-wasm");
const require = createRequire(`${installed}/package.json`);
wasm.setWasmPaths(`${path.dirname(require.resolve("@tensorflow/tfjs-backend-wasm"))}/`);
wasm.setThreadsCount(Number(process.argv[2]));
await tf.setBackend("wasm");
await tf.ready();

const twins: Twins = {
  gemm: {
    dtypes: ["f32"],
    async prepare({ number }) {
      const [m, k, n] = [number("m"), number("k"), number("n")];
      const [x, y] = [noise(m * k), noise(k * n)];
      const [a, b] = [tf.tensor(x, [m, k]), tf.tensor(y, [k, n])];
      const product = tf.matMul(a, b);
      let sum = 0;
      for (let p = 0; p < k; p++) sum += x[(m - 1) * k + p]! * y[p * n + n - 1]!;
      expectClose("gemm", (await product.data()).at(-1)!, sum, 1e-3);
      product.dispose();
      return {
        run: () => tf.matMul(a, b).dispose(), // the product is done when the call returns
        release: () => {
          a.dispose();
          b.dispose();
        },
      };
    },
  },
  add: {
    dtypes: ["f32"],
    prepare({ number }) {
      const [size, count] = [number("size"), number("count")];
      const [a, b] = [tf.tensor(noise(size), [size]), tf.tensor(noise(size), [size])];
      return Promise.resolve({
        run: () => {
          for (let i = 0; i < count; i++) tf.add(a, b).dispose();
        },
        release: () => {
          a.dispose();
          b.dispose();
        },
      });
    },
  },
};
const { version } = require("@tensorflow/tfjs-core/package.json") as { version: string };
// On Node.js the back end has one thread, whatever number is requested.
const threads = wasm.getThreadsCount();
await serve(`${version}, ${threads} ${threads === 1 ? "thread" : "threads"}`, twins);
