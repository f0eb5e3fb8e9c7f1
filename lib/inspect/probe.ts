import { noGrad, parameter } from "../core/autograd.js";
import { checkInteger, checkNumber, checkObject, checkValues } from "../util/check.js";
import { tensor, zeros } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import { hash } from "../util/hash.js";
import { largest } from "../util/largest.js";
import { Module } from "../nn/module.js";
import { argmax } from "../ops/choose.js";
import { add, div, maximum, mul, sub } from "../ops/binary.js";
import { checkFloat, checkShapeIs } from "../ops/check.js";
import { crossEntropy } from "../ops/cross-entropy.js";
import { linear } from "../ops/linear.js";
import { mean, sum } from "../ops/reduce.js";
import { sqrt, square } from "../ops/unary.js";
import { AdamW } from "../optim/adamw.js";
import { Permutation } from "../util/permutation.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { rowsAt } from "./corpus.js";

/** Options of `trainProbe`. */
export interface ProbeOptions {
  /** Number of classes. @default the largest label + 1 */
  classes?: number;
  /** Share of the rows that is not trained on, to measure accuracy. @default 0.2 */
  heldOut?: number;
  /**
   * Type of each row, such as its token. The control task gives each type a label of its own, drawn at random, which a
   * probe can only know by heart.
   *
   * @default null (no control task)
   */
  types?: ArrayLike<number> | null;
  /** Factor of the squared weights in the loss, for features of variance 1. @default 1e-3 */
  l2?: number;
  /** Number of steps, each over all rows. @default 300 */
  steps?: number;
  /** Learning rate at the beginning; it falls to 0 in a straight line. @default 0.05 */
  lr?: number;
  /** Seed of the choice of held-out rows and of the control task. @default 0 */
  seed?: number;
}

/** Shares of rows whose class a probe finds. */
export interface ProbeAccuracy {
  /** Share of the rows that it was trained on. */
  trained: number;
  /** Share of the held-out rows. */
  heldOut: number;
}

/** A trained probe and what it achieves. */
export interface ProbeResult {
  /** Probe, which the caller disposes. */
  probe: LinearProbe;
  /** Accuracy of the probe. */
  accuracy: ProbeAccuracy;
  /** Share of the held-out rows that have the commonest class of the others. */
  majority: number;
  /** Accuracy of a probe for the control task; null without `types`. */
  control: ProbeAccuracy | null;
  /**
   * Held-out accuracy minus that of the control task (Hewitt & Liang 2019): what the representation gives the probe beyond
   * what it could learn by heart. It is null without `types`.
   */
  selectivity: number | null;
}

/**
 * Linear classifier of activations: x·Wᵀ + b.
 *
 * @example
 * const labels = Array.from({ length: 40 }, (_, i) => i % 2);
 * const { probe } = await trainProbe(randn([40, 8], { seed: 1 }), labels, { steps: 5 });
 * probe.logits(x).shape; // [2, 2]
 * await probe.predict(x).data(); // a class for each row
 */
export class LinearProbe extends Module {
  /** W, f32 [K, C]. */
  readonly weight: FloatTensor;
  /** b, f32 [K]. */
  readonly bias: FloatTensor;

  /** @internal */
  constructor(weight: FloatTensor, bias: FloatTensor) {
    super();
    this.weight = parameter(weight);
    this.bias = parameter(bias);
  }

  /** Returns the logits of the classes [..., K] for activations x f32 [..., C]. */
  logits(x: FloatTensor): FloatTensor {
    return linear(x, this.weight, { bias: this.bias });
  }

  /** Returns the likeliest class, i32 [...], of activations x f32 [..., C]. */
  predict(x: FloatTensor): IntTensor {
    return noGrad(() => scope(() => argmax(this.logits(x))));
  }
}

/**
 * Resolves to a linear probe that finds the class of activations, with its accuracy on rows that it was not trained on, and
 * that of a control task. It minimises the cross-entropy plus l2 · ‖W‖² / 2 for features that are brought to mean 0 and
 * variance 1; the probe itself takes activations as they are.
 *
 * @param rows activations f32 [N, C], such as `collectActivations` gives them
 * @param labels class of each row, from 0
 *
 * @example
 * const { rows, tokens } = await collectActivations(gpt, [tokenizer.encode("a b c d e f")], { name: "hook_embed" });
 * const labels = Array.from(tokens, (token) => Number(token === 32)); // is it a space?
 * const { accuracy, selectivity } = await trainProbe(rows, labels, { types: tokens, steps: 20 });
 *
 * @throws ERR_SHAPE if there is not a label or a type for each row; ERR_RANGE if a label or an option is out of range, or
 *   no row is left to train on or to hold out.
 * @see Alain & Bengio 2016, arXiv:1610.01644; Hewitt & Liang 2019, "Designing and Interpreting Probes with Control
 *   Tasks", arXiv:1909.03368.
 */
export async function trainProbe(
  rows: FloatTensor,
  labels: ArrayLike<number>,
  options: ProbeOptions = {},
): Promise<ProbeResult> {
  const op = "trainProbe";
  checkObject(op, "options", options);
  checkFloat(op, "rows", rows);
  checkShapeIs(op, "rows", rows, [-1, -1]);
  const count = rows.shape[0]!;
  checkEach(op, "labels", labels, count);
  const { classes = Math.max(2, largest(Array.from(labels)) + 1), heldOut = 0.2, types = null, seed = 0 } = options;
  checkInteger(op, "classes", classes, 2);
  for (let i = 0; i < count; i++) checkInteger(op, `labels[${i}]`, labels[i], 0, classes - 1);
  checkNumber(op, "heldOut", heldOut, 0, 1);
  checkInteger(op, "seed", seed, 0);
  if (types) checkEach(op, "types", types, count);
  const split = splitOf(op, count, heldOut, seed);
  const task = { rows, split, classes, options };
  const { probe, accuracy } = await fitted(op, labels, task);
  const majority = shareOfCommonest(labels, split, classes);
  if (!types) return { probe, accuracy, majority, control: null, selectivity: null };
  const random = Array.from(types, (type) => labels[Math.abs(hash(hash(seed, 1), type)) % count]!);
  const control = await fitted(op, random, task);
  control.probe.dispose();
  const selectivity = accuracy.heldOut - control.accuracy.heldOut;
  return { probe, accuracy, majority, control: control.accuracy, selectivity };
}

function checkEach(op: string, name: string, values: ArrayLike<number>, count: number): void {
  checkValues(op, values);
  if (values.length !== count)
    throw new HeedError("ERR_SHAPE", `${op}: expected ${name} for ${count} rows, got ${values.length}`);
}

/** Indices of the rows that are trained on and of those that are held out. */
interface Split {
  trained: number[];
  heldOut: number[];
}

function splitOf(op: string, count: number, share: number, seed: number): Split {
  const away = Math.round(count * share);
  if (away < 1 || away >= count)
    throw new HeedError(
      "ERR_RANGE",
      `${op}: expected rows to train on and to hold out, got ${away} of ${count} held out`,
    );
  const permutation = new Permutation(count, seed, 0);
  const order = Array.from({ length: count }, (_, i) => permutation.at(i));
  return { heldOut: order.slice(0, away), trained: order.slice(away) };
}

function shareOfCommonest(labels: ArrayLike<number>, split: Split, classes: number): number {
  const counts = new Float64Array(classes);
  for (const i of split.trained) counts[labels[i]!]! += 1;
  const commonest = counts.indexOf(largest(counts));
  return split.heldOut.filter((i) => labels[i] === commonest).length / split.heldOut.length;
}

interface Task {
  rows: FloatTensor;
  split: Split;
  classes: number;
  options: ProbeOptions;
}

async function fitted(
  op: string,
  labels: ArrayLike<number>,
  { rows, split, classes, options }: Task,
): Promise<{ probe: LinearProbe; accuracy: ProbeAccuracy }> {
  const { l2 = 1e-3, steps = 300, lr = 0.05 } = options;
  checkNumber(op, "l2", l2, 0);
  checkInteger(op, "steps", steps, 1);
  checkNumber(op, "lr", lr, 0);
  const { device } = rows;
  const width = rows.shape[1]!;
  const wide = rows.to("f32");
  const features = noGrad(() => scope(() => standardised(rowsAt(wide, split.trained))));
  const targets = tensor(
    Int32Array.from(split.trained, (i) => labels[i]!),
    [split.trained.length],
    { device },
  );
  const trained = new LinearProbe(zeros([classes, width], { device }), zeros([classes], { device }));
  {
    using optimizer = new AdamW(trained.namedParameters(), { lr, weightDecay: 0 });
    for (let step = 0; step < steps; step++) {
      optimizer.lr = lr * (1 - step / steps);
      scope(() => {
        const penalty = mul(sum(square(trained.weight)), l2 / 2);
        add(crossEntropy(trained.logits(features.x), targets), penalty).backward();
      });
      optimizer.step();
      optimizer.zeroGrad();
      if (step % 32 === 31) await device.synchronize();
    }
  }
  // W·((x − μ)/σ) + b = (W/σ)·x + (b − (W/σ)·μ)
  const probe = noGrad(() =>
    scope(() => {
      const weight = div(trained.weight, features.deviation);
      return new LinearProbe(weight, sub(trained.bias, sum(mul(weight, features.middle), { axes: [1] })));
    }),
  );
  const accuracyOf = async (places: readonly number[]): Promise<number> => {
    const predicted = await noGrad(() => scope(() => ({ read: probe.predict(rowsAt(wide, places)).data() }))).read;
    return places.filter((i, at) => predicted[at] === labels[i]).length / places.length;
  };
  const accuracy = { trained: await accuracyOf(split.trained), heldOut: await accuracyOf(split.heldOut) };
  for (const each of [trained, ...Object.values(features), targets, ...(wide === rows ? [] : [wide])]) each.dispose();
  return { probe, accuracy };
}

/** Returns rows with mean 0 and variance 1 in each column, the means and the deviations. */
function standardised(rows: FloatTensor): { x: FloatTensor; middle: FloatTensor; deviation: FloatTensor } {
  const middle = mean(rows, { axes: [0] });
  const centred = sub(rows, middle);
  const deviation = maximum(sqrt(mean(square(centred), { axes: [0] })), 1e-6);
  return { x: div(centred, deviation), middle, deviation };
}
