import { detach, isRecording, parameter, record } from "../core/autograd.js";
import { checkFunction, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";
import type { Hook } from "../nn/observer.js";
import { checkFloat, checkShapeIs } from "../ops/check.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { ActivationCache } from "./activation-cache.js";
import { checkNames, type HookNameOf, hookNames, type InspectedModel, selectNames } from "./hook-names.js";
import { type CacheOptions, type HooksOf, type InputOf, pass, type RunOptions } from "./run.js";

/** Options of `runWithGradients`. */
export type GradientOptions<M extends InspectedModel> = CacheOptions<M> & {
  /**
   * Hooks of the backward pass: each receives the gradient of a value and may return the gradient to pass on instead.
   *
   * @default {}
   */
  backwardHooks?: HooksOf<M>;
};

/** Values of a pass with their gradients. The tensors belong to it; dispose it. */
export interface GradientRun<Name extends string> extends Disposable {
  /** Metric, a tensor of one element. */
  readonly metric: FloatTensor;
  /** Values of the forward pass, and its output. */
  readonly values: ActivationCache<Name>;
  /** Gradients of the metric by these values. It lacks values that the metric does not depend on. */
  readonly gradients: ActivationCache<Name>;
  /** Frees all of them. */
  dispose(): void;
}

/**
 * Runs a model, computes a metric of its output, and returns the selected values with the gradients of the metric.
 * Dropout is off, and parameters get no gradients.
 *
 * @param metric function from the output to a tensor of one element
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const metric = (logits: FloatTensor) => logitDifference(logits, [5], [7]);
 * using run = runWithGradients(gpt, ids, metric, { names: "blocks.1.hook_resid_pre" });
 * run.gradients.get("blocks.1.hook_resid_pre").shape; // [1, 3, 16]
 *
 * @throws the errors of `runWithCache`; ERR_AUTOGRAD inside of `noGrad`, or if the metric depends on none of the values;
 *   ERR_SHAPE if the metric has several elements.
 */
export function runWithGradients<M extends InspectedModel>(
  model: M,
  input: InputOf<M>,
  metric: (output: FloatTensor) => FloatTensor,
  options: GradientOptions<M>,
): GradientRun<HookNameOf<M>> {
  const op = "runWithGradients";
  checkFunction(op, metric);
  checkObject(op, "options", options);
  if (!isRecording()) throw new HeedError("ERR_AUTOGRAD", `${op}: expected a call outside of noGrad()`);
  const { names, backwardHooks = {}, ...rest } = options;
  checkObject(op, "backwardHooks", backwardHooks);
  const hooks = backwardHooks as Readonly<Record<string, Hook>>;
  checkNames(op, Object.keys(hooks), hookNames(model));
  type Name = HookNameOf<M>;
  const values = new Map<Name, FloatTensor>();
  const gradients = new Map<Name, FloatTensor>();
  const wanted = new Set<string>(selectNames(op, model, names));
  const readers = [...new Set([...wanted, ...Object.keys(hooks)])].map((name) => {
    const reader: Hook = (value) => {
      if (wanted.has(name)) values.set(name as Name, keep(detach(value)));
      return watched(value, (gradient) => {
        const replaced = hooks[name]?.(gradient, name);
        if (replaced) checkGradient(op, name, replaced, gradient);
        if (wanted.has(name)) gradients.set(name as Name, (replaced ?? gradient).alias());
        return replaced;
      });
    };
    return [name, reader] as const;
  });
  const free = (): void => {
    for (const tensor of [...values.values(), ...gradients.values()]) tensor.dispose();
  };
  try {
    return scope(() => {
      const output = frozen(model, () => pass(op, model, input, rest as unknown as RunOptions<M>, new Map(readers)));
      const scalar = metric(output);
      checkFloat(op, "metric", scalar);
      if (!scalar.requiresGrad)
        throw new HeedError("ERR_AUTOGRAD", `${op}: expected a metric that depends on one of the values`);
      scalar.backward();
      return new Gradients(
        keep(detach(scalar)),
        new ActivationCache(keep(detach(output)), values),
        new ActivationCache(keep(detach(scalar)), gradients),
      );
    });
  } catch (error) {
    free();
    throw error;
  }
}

class Gradients<Name extends string> implements GradientRun<Name> {
  constructor(
    readonly metric: FloatTensor,
    readonly values: ActivationCache<Name>,
    readonly gradients: ActivationCache<Name>,
  ) {}

  dispose(): void {
    for (const part of [this.metric, this.values, this.gradients]) part.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @internal Runs `body` while no parameter of the module requires a gradient. */
export function frozen<T>(module: Module, body: () => T): T {
  const parameters = module.parameters({ trainable: true });
  for (const parameter of parameters) parameter.requiresGrad = false;
  try {
    return body();
  } finally {
    for (const parameter of parameters) parameter.requiresGrad = true;
  }
}

/**
 * Returns a tensor with the elements of `value` whose gradient goes through `listener` in the backward pass. If `value`
 * requires no gradient, the graph begins here.
 */
function watched(value: FloatTensor, listener: (gradient: FloatTensor) => FloatTensor | undefined): FloatTensor {
  const leaf = value.requiresGrad ? null : parameter(value.alias());
  const out = value.viewAs(value.shape, value.strides);
  record("hook", out, [leaf ?? value], {}, ({ dout, pass }) => scope(() => pass(0, listener(dout) ?? dout)));
  leaf?.dispose(); // so that its gradient is dropped
  return out;
}

function checkGradient(op: string, name: string, given: FloatTensor, gradient: FloatTensor): void {
  checkFloat(op, `the gradient of ${name}`, given, gradient);
  checkShapeIs(op, `the gradient of ${name}`, given, gradient.shape);
}
