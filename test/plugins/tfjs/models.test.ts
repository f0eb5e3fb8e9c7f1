/** TensorFlow.js' layers and converted graphs on heed. */
import * as tfc from "@tensorflow/tfjs-converter";
import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { beforeAll, describe, expect, test } from "vitest";
import { register } from "../../../lib/plugins/tfjs/index.js";
import { devicesTested } from "../../support/targets.js";

/** Two classes of points: those within a circle, and those outside of it. */
function points(count: number): { xs: tf.Tensor2D; ys: tf.Tensor2D } {
  const at = Float32Array.from({ length: 2 * count }, (_, i) => Math.sin(12.9898 * i) * 2);
  const inside = Array.from({ length: count }, (_, i) => Number(Math.hypot(at[2 * i]!, at[2 * i + 1]!) < 1.4));
  return { xs: tf.tensor2d(at, [count, 2]), ys: tf.tensor2d(inside, [count, 1]) };
}

function network(): tfl.Sequential {
  const initial = (seed: number) => tfl.initializers.glorotUniform({ seed });
  return tfl.sequential({
    layers: [
      tfl.layers.dense({ inputShape: [2], units: 24, activation: "tanh", kernelInitializer: initial(1) }),
      tfl.layers.layerNormalization(),
      tfl.layers.dense({ units: 1, activation: "sigmoid", kernelInitializer: initial(2) }),
    ],
  });
}

describe.each(devicesTested)("on $name", ({ device }) => {
  beforeAll(async () => {
    register(tf, { device });
    await tf.setBackend("heed");
  });

  test("a model of layers learns, is saved, and predicts the same when it is loaded", async () => {
    const { xs, ys } = points(96);
    const model = network();
    model.compile({ optimizer: tf.train.adam(0.05), loss: "binaryCrossentropy", metrics: ["accuracy"] });
    const { history } = await model.fit(xs, ys, { epochs: 6, batchSize: 48, shuffle: false });
    const losses = history.loss as number[];
    expect(losses.at(-1)!).toBeLessThan(0.75 * losses[0]!);

    let saved: tf.io.ModelArtifacts | undefined;
    await model.save(
      tf.io.withSaveHandler(async (artifacts) => {
        saved = artifacts;
        return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: "JSON" } };
      }),
    );
    const loaded = await tfl.loadLayersModel(tf.io.fromMemory(saved!));
    const [own, again] = [model.predict(xs) as tf.Tensor, loaded.predict(xs) as tf.Tensor];
    expect(await again.data()).toEqual(await own.data());
    await tf.setBackend("cpu");
    const reference = loaded.predict(xs) as tf.Tensor;
    const expected = await reference.data();
    await tf.setBackend("heed");
    for (const [i, value] of (await own.data()).entries()) expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-5);
    tf.dispose([xs, ys, own, again, reference]);
    model.dispose();
    loaded.dispose();
  });

  test("a convolutional model is trained as on TensorFlow.js' CPU backend", async () => {
    const losses: number[][] = [];
    for (const backend of ["cpu", "heed"]) {
      await tf.setBackend(backend);
      const initial = (seed: number) => tfl.initializers.glorotUniform({ seed });
      const model = tfl.sequential({
        layers: [
          tfl.layers.conv2d({ inputShape: [8, 8, 1], filters: 4, kernelSize: 3, kernelInitializer: initial(1), activation: "relu" }), // prettier-ignore
          tfl.layers.maxPooling2d({ poolSize: 2 }),
          tfl.layers.depthwiseConv2d({ kernelSize: 2, depthwiseInitializer: initial(2) }),
          tfl.layers.batchNormalization(),
          tfl.layers.flatten(),
          tfl.layers.dense({ units: 3, kernelInitializer: initial(3), activation: "softmax" }),
        ],
      });
      model.compile({ optimizer: tf.train.sgd(0.1), loss: "categoricalCrossentropy" });
      // An image is the brighter, the higher its class is.
      const image = Float32Array.from({ length: 12 * 64 }, (_, i) => Math.sin(3.7 * i) + (Math.floor(i / 64) % 3));
      const xs = tf.tensor4d(image, [12, 8, 8, 1]);
      const ys = tf.oneHot(tf.tensor1d(Array.from({ length: 12 }, (_, i) => i % 3), "int32"), 3); // prettier-ignore
      const { history } = await model.fit(xs, ys, { epochs: 3, batchSize: 6, shuffle: false });
      losses.push(history.loss as number[]);
      tf.dispose([xs, ys]);
      model.dispose();
    }
    for (const [i, loss] of losses[0]!.entries()) expect(Math.abs(losses[1]![i]! - loss)).toBeLessThan(1e-4);
    expect(losses[1]!.at(-1)!).toBeLessThan(0.75 * losses[1]![0]!);
  });

  test("a converted graph predicts", async () => {
    const node = (name: string, op: string, input: string[] = [], attr: object = {}) => ({ name, op, input, attr });
    const float = { dtype: { type: "DT_FLOAT" } };
    const shape = (...sizes: number[]) => ({ shape: { dim: sizes.map((size) => ({ size })) } });
    const weight = [1, -1, 0.5, 2, 0, 1];
    const model = await tfc.loadGraphModel(
      tf.io.fromMemory({
        modelTopology: {
          node: [
            node("x", "Placeholder", [], { ...float, shape: shape(-1, 2) }),
            node("w", "Const", [], {
              ...float,
              value: { tensor: { dtype: "DT_FLOAT", tensorShape: shape(2, 3).shape } },
            }),
            node("b", "Const", [], { ...float, value: { tensor: { dtype: "DT_FLOAT", tensorShape: shape(3).shape } } }),
            node("product", "MatMul", ["x", "w"], { T: { type: "DT_FLOAT" } }),
            node("sum", "BiasAdd", ["product", "b"], { T: { type: "DT_FLOAT" } }),
            node("y", "Relu", ["sum"], { T: { type: "DT_FLOAT" } }),
          ],
          versions: { producer: 1 },
        },
        weightSpecs: [
          { name: "w", shape: [2, 3], dtype: "float32" },
          { name: "b", shape: [3], dtype: "float32" },
        ],
        weightData: Float32Array.from([...weight, 0.5, -1, 0]).buffer,
      }),
    );
    const x = tf.tensor2d([1, 2, -1, 0.5], [2, 2]);
    const y = model.predict(x) as tf.Tensor;
    expect(await y.array()).toEqual([
      [5.5, 0, 2.5],
      [0.5, 0, 0],
    ]);
    tf.dispose([x, y]);
    model.dispose();
  });
});
