import { addLayerNorm, type FloatTensor, layerNorm, narrow, noGrad, randn, scope, tensor } from "heed";
import { bytesOf, type Case, expectClose, type Goals, type Prepared, type Setting, tolerances } from "../case.js";

type Pass = "forward" | "add + forward" | "backward" | "add + backward";

/**
 * Number of tensors that a fused kernel reads and writes: x and y forward, dy, x and dx backward. With "add" it is the
 * residual and the sum as well, or backward dsum.
 */
const traffic: Record<Pass, number> = { forward: 2, "add + forward": 4, backward: 3, "add + backward": 4 };

const names: Record<Pass, string> = {
  forward: "layer norm",
  "add + forward": "add + layer norm",
  backward: "layer norm backward",
  "add + backward": "add + layer norm backward",
};

/** Returns the case of a pass of layer norm over x [rows, width]. */
export function norm(setting: Setting, rows: number, width: number, pass: Pass, goals: Goals = {}): Case {
  return {
    ...setting,
    name: names[pass],
    shape: `${rows}×${width}`,
    work: { bytes: traffic[pass] * rows * width * bytesOf[setting.dtype] },
    goals,
    peer: { name: "layer_norm", rows, width, pass },
    prepare: () =>
      pass === "forward" || pass === "add + forward"
        ? forward(setting, rows, width, pass === "add + forward")
        : backward(setting, rows, width, pass === "add + backward"),
  };
}

async function firstRow(values: FloatTensor): Promise<number[]> {
  using row = noGrad(() => scope(() => narrow(values, 0, 0, 1).to("f32")));
  return Array.from(await row.data());
}

function forward(setting: Setting, rows: number, width: number, residual: boolean): Prepared {
  const x = randn([rows, width], { ...setting, seed: 1 });
  const r = randn([rows, width], { ...setting, seed: 2 });
  const weight = randn([width], { ...setting, seed: 3, mean: 1 });
  const bias = randn([width], { ...setting, seed: 4 });
  const run = (): FloatTensor =>
    noGrad(() => (residual ? addLayerNorm(x, r, { weight, bias }).out : layerNorm(x, { weight, bias })));
  return {
    run: () => scope(() => void run()),
    verify: async () => {
      using out = scope(run);
      const [a, b, y, w, c] = await Promise.all([x, r, out].map(firstRow).concat([weight, bias].map(allOf)));
      const row = a!.map((value, i) => value + (residual ? b![i]! : 0));
      const { mean, rstd } = statistics(row);
      for (const i of [0, width - 1]) {
        const expected = (row[i]! - mean) * rstd * w![i]! + c![i]!;
        expectClose("layer norm", y![i]!, expected, tolerances[setting.dtype]);
      }
    },
    dispose: () => {
      for (const tensor of [x, r, weight, bias]) tensor.dispose();
    },
  };
}

async function allOf(values: FloatTensor): Promise<number[]> {
  return Array.from(await values.data());
}

function statistics(row: ArrayLike<number>): { mean: number; rstd: number } {
  const values = Array.from(row);
  const mean = values.reduce((a, b) => a + b) / values.length;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  return { mean, rstd: 1 / Math.sqrt(variance + 1e-5) };
}

/** Declares the native operation that is timed, since the public functions start from a loss, not from a gradient. */
interface Internals {
  ops: { layernorm_backward(operands: Record<string, FloatTensor | null | undefined>): void };
}

async function backward(setting: Setting, rows: number, width: number, residual: boolean): Promise<Prepared> {
  const { ops } = (await import(new URL("core/native.js", import.meta.resolve("heed")).href)) as Internals;
  const { device } = setting;
  const [x, dout, dsum, dx] = [1, 2, 3, 4].map((seed) => randn([rows, width], { ...setting, seed }));
  const [weight, dweight, dbias] = [5, 6, 7].map((seed) => randn([width], { ...setting, seed, mean: 1 }));
  const values = await x!.to("f32").data();
  const each = Array.from({ length: rows }, (_, i) => statistics(values.subarray(i * width, (i + 1) * width)));
  const [mean, rstd] = (["mean", "rstd"] as const).map((name) =>
    tensor(
      Float32Array.from(each, (row) => row[name]),
      [rows],
      { device },
    ),
  );
  const added = residual ? dsum : null;
  const run = (): void =>
    ops.layernorm_backward({ dinp: dx, dweight, dbias, dout, dsum: added, inp: x, weight, mean, rstd });
  return {
    run,
    verify: async () => {
      run();
      const [a, g, s, got] = await Promise.all([x!, dout!, dsum!, dx!].map(firstRow));
      const w = await allOf(weight!);
      const normed = a!.map((value) => (value - each[0]!.mean) * each[0]!.rstd);
      const dy = g!.map((value, i) => value * w[i]!);
      const [average, along] = [dy, dy.map((value, i) => value * normed[i]!)].map((row) => statistics(row).mean);
      for (const i of [0, width - 1]) {
        const own = each[0]!.rstd * (dy[i]! - average! - normed[i]! * along!);
        const expected = own + (residual ? s![i]! : 0);
        expectClose("gradient of layer norm", got![i]!, expected, tolerances[setting.dtype]);
      }
    },
    dispose: () => {
      for (const tensor of [dx, dweight, dbias, dout, dsum, x, weight, mean, rstd]) tensor?.dispose();
    },
  };
}
