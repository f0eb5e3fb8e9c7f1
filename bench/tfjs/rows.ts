// The rows of bench:tfjs: the same program of TensorFlow.js on every backend.
import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { attention, rmsNorm } from "heed/tfjs";

/** A program that is ready to run on the current backend. */
export interface Prepared {
  /** Runs once. The result is read by the caller, so that its time contains that of the device. */
  run: () => tf.Tensor | Promise<tf.Tensor>;
  dispose: () => void;
}

export interface Row {
  name: string;
  shape: string;
  /** Least factor by which heed should be faster than tfjs-backend-wasm; null if there is no goal. */
  goal: number | null;
  /** Largest relative difference from the other backends' results. */
  tolerance: number;
  prepare: () => Prepared | Promise<Prepared>;
}

/** Returns numbers from −1 to 1 that are always the same. */
function numbers(shape: number[], seed = 1): tf.Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(7919 * seed + 12.9898 * i)),
    shape,
  );
}

/** Returns a row that applies a function to the same tensors again and again. */
function operation(
  name: string,
  shape: string,
  goal: number | null,
  shapes: number[][],
  apply: (...inputs: tf.Tensor[]) => tf.Tensor,
): Row {
  return {
    ...{ name, shape, goal, tolerance: 1e-4 },
    prepare() {
      const inputs = shapes.map((shape, i) => numbers(shape, i + 1));
      return { run: () => tf.tidy(() => apply(...inputs)), dispose: () => tf.dispose(inputs) };
    },
  };
}

const seeded = (seed: number): ReturnType<typeof tfl.initializers.glorotUniform> =>
  tfl.initializers.glorotUniform({ seed });

/** Returns the row of an epoch of a small convolutional network over images of MNIST's shape. */
function epoch(images: number): Row {
  return {
    ...{ name: "CNN epoch", shape: `${images} images of 28 × 28, batch 32`, goal: 3, tolerance: 1e-2 },
    prepare() {
      const model = tfl.sequential({
        layers: [
          tfl.layers.conv2d({
            ...{ inputShape: [28, 28, 1], filters: 16, kernelSize: 3, activation: "relu" },
            kernelInitializer: seeded(1),
          }),
          tfl.layers.maxPooling2d({ poolSize: 2 }),
          tfl.layers.conv2d({ filters: 32, kernelSize: 3, activation: "relu", kernelInitializer: seeded(2) }),
          tfl.layers.maxPooling2d({ poolSize: 2 }),
          tfl.layers.flatten(),
          tfl.layers.dense({ units: 10, activation: "softmax", kernelInitializer: seeded(3) }),
        ],
      });
      model.compile({ optimizer: tf.train.sgd(0.01), loss: "categoricalCrossentropy" });
      const xs = numbers([images, 28, 28, 1]);
      const digits = tf.tensor1d(
        Array.from({ length: images }, (_, i) => i % 10),
        "int32",
      );
      const ys = tf.oneHot(digits, 10);
      return {
        async run() {
          const { history } = await model.fit(xs, ys, { epochs: 1, batchSize: 32, shuffle: false });
          return tf.scalar(history.loss![0] as number);
        },
        dispose() {
          model.dispose();
          tf.dispose([xs, ys, digits]);
        },
      };
    },
  };
}

/** Returns the row of inference with a network of depthwise separable convolutions, as in MobileNet v1 at a quarter of its width. */
function mobileNet(size: number): Row {
  return {
    ...{ name: "MobileNet-shaped inference", shape: `[1, ${size}, ${size}, 3]`, goal: null, tolerance: 1e-3 },
    prepare() {
      const widths = [8, 16, 32, 32, 64, 64, 128, 128, 128, 256];
      const strides = [1, 2, 1, 2, 1, 2, 1, 1, 2];
      const filters = widths.slice(1).map((width, i) => ({
        depthwise: numbers([3, 3, widths[i]!, 1], i) as tf.Tensor4D,
        pointwise: tf.mul<tf.Tensor4D>(numbers([1, 1, widths[i]!, width], i), 2 / Math.sqrt(widths[i]!)),
      }));
      const first = numbers([3, 3, 3, 8]) as tf.Tensor4D;
      const x = numbers([1, size, size, 3], 9) as tf.Tensor4D;
      const run = (): tf.Tensor =>
        tf.tidy(() => {
          let y = tf.relu6(tf.conv2d(x, first, 2, "same"));
          for (const [i, { depthwise, pointwise }] of filters.entries()) {
            y = tf.relu6(tf.depthwiseConv2d(y, depthwise, strides[i]!, "same"));
            y = tf.relu6(tf.conv2d(y, pointwise, 1, "same"));
          }
          return tf.mean(y, [1, 2]);
        });
      return { run, dispose: () => tf.dispose([first, x, ...filters.flatMap((filter) => Object.values(filter))]) };
    },
  };
}

interface GptSize {
  layers: number;
  heads: number;
  width: number;
  batch: number;
  time: number;
  vocabulary: number;
}

/**
 * Returns the row of a GPT's training step. On heed, attention and the norms are heed's; elsewhere they are written in
 * operations. tfjs-backend-wasm has no gradient of `gather`, so that embeddings are products with one-hot rows there.
 */
function gptStep({ layers, heads, width, batch, time, vocabulary }: GptSize): Row {
  const size = width / heads;
  return {
    name: "GPT training step",
    shape: `${layers} layers, width ${width}, [${batch}, ${time}]`,
    ...{ goal: 10, tolerance: 1e-3 },
    prepare() {
      const small = (shape: number[], seed: number): tf.Variable =>
        tf.tidy(() => tf.variable(tf.mul(numbers(shape, seed), 1 / Math.sqrt(shape[0]!))));
      const [embedding, positions] = [small([vocabulary, width], 1), small([time, width], 2)];
      const blocks = Array.from({ length: layers }, (_, i) => ({
        norm: tf.variable(tf.ones([width])),
        qkv: small([width, 3 * width], 10 * i + 3),
        out: small([width, width], 10 * i + 4),
        norm2: tf.variable(tf.ones([width])),
        up: small([width, 4 * width], 10 * i + 5),
        down: small([4 * width, width], 10 * i + 6),
      }));
      const variables = [embedding, positions, ...blocks.flatMap((block) => Object.values(block))];
      const rows = batch * time;
      const id = (i: number): number => (i * 7919 + 13) % vocabulary;
      const ids = tf.tensor1d(
        Int32Array.from({ length: rows }, (_, i) => id(i)),
        "int32",
      );
      const next = tf.tensor1d(
        Int32Array.from({ length: rows }, (_, i) => id(i + 1)),
        "int32",
      );
      const hidden = tf.tidy(() => {
        const places = tf.range(0, time);
        const after = tf.greater(tf.reshape(places, [1, time]), tf.reshape(places, [time, 1]));
        return tf.mul(tf.cast(after, "float32"), -1e9);
      });
      const own = tf.getBackend() === "heed";
      const norm = (x: tf.Tensor, weight: tf.Tensor): tf.Tensor =>
        own ? rmsNorm(x, weight) : tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-5))), weight);
      const attend = (qkv: tf.Tensor): tf.Tensor => {
        const parts = tf.split(tf.reshape(qkv, [batch, time, 3 * heads, size]), 3, 2);
        const [q, k, v] = parts as [tf.Tensor, tf.Tensor, tf.Tensor];
        if (own) return tf.reshape(attention(q, k, v, { causal: true }), [rows, width]);
        const [a, b, c] = parts.map((x) => tf.transpose(x, [0, 2, 1, 3])) as [tf.Tensor, tf.Tensor, tf.Tensor];
        const scores = tf.add(tf.mul(tf.matMul(a, b, false, true), 1 / Math.sqrt(size)), hidden);
        return tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), c), [0, 2, 1, 3]), [rows, width]);
      };
      const loss = (): tf.Scalar => {
        const chosen =
          tf.getBackend() === "wasm" ? tf.matMul(tf.oneHot(ids, vocabulary), embedding) : tf.gather(embedding, ids);
        const tokens = tf.reshape(chosen, [batch, time, width]);
        let x = tf.reshape(tf.add(tokens, positions), [rows, width]);
        for (const { norm: before, qkv, out, norm2, up, down } of blocks) {
          x = tf.add(x, tf.matMul(attend(tf.matMul(norm(x, before), qkv)), out));
          x = tf.add(x, tf.matMul(tf.relu(tf.matMul(norm(x, norm2), up)), down));
        }
        const logits = tf.matMul(x, embedding, false, true);
        const target = tf.oneHot(next, vocabulary);
        return tf.neg(tf.mean(tf.sum(tf.mul(target, tf.logSoftmax(logits)), -1)));
      };
      const optimizer = tf.train.sgd(0.01);
      return {
        run: () => optimizer.minimize(loss, true, variables)!,
        dispose() {
          tf.dispose([ids, next, hidden, ...variables]);
          optimizer.dispose();
        },
      };
    },
  };
}

const conv = (x: tf.Tensor, filter: tf.Tensor): tf.Tensor =>
  tf.conv2d(x as tf.Tensor4D, filter as tf.Tensor4D, 1, "same");
const depthwise = (x: tf.Tensor, filter: tf.Tensor): tf.Tensor =>
  tf.depthwiseConv2d(x as tf.Tensor4D, filter as tf.Tensor4D, 1, "same");
const layerNorm = (x: tf.Tensor): tf.Tensor => {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-5)));
};
const matMul = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.matMul(a, b);
const pool = (x: tf.Tensor): tf.Tensor => tf.maxPool(x as tf.Tensor4D, 2, 2, "valid");

/** Returns the rows, or small ones that only show that everything works. */
export function rows(smoke: boolean): Row[] {
  if (smoke)
    return [
      operation("matmul", "[17, 33] · [33, 9]", null, [[17, 33], [33, 9]], matMul), // prettier-ignore
      { ...epoch(4), goal: null },
      { ...gptStep({ layers: 1, heads: 2, width: 16, batch: 1, time: 8, vocabulary: 20 }), goal: null },
    ];
  const image = [4, 56, 56, 64];
  return [
    operation("matmul", "[512, 512] · [512, 512]", 3, [[512, 512], [512, 512]], matMul), // prettier-ignore
    operation("conv2d", "[4, 56, 56, 64], 3 × 3 to 64", 3, [image, [3, 3, 64, 64]], conv),
    operation("depthwise conv2d", "[4, 56, 56, 64], 3 × 3", 1.5, [image, [3, 3, 64, 1]], depthwise),
    operation("max pooling", "[4, 56, 56, 64], 2 × 2", 1.5, [image], pool),
    operation("layer norm", "[2048, 768]", null, [[2048, 768]], layerNorm),
    epoch(64),
    mobileNet(128),
    gptStep({ layers: 4, heads: 4, width: 128, batch: 4, time: 128, vocabulary: 512 }),
  ];
}
