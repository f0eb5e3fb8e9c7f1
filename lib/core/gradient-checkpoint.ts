import {
  attach,
  type Backward,
  detach,
  isRecording,
  leavesOf,
  propagate,
  reachesBefore,
  recorded,
  stepsSoFar,
} from "./autograd.js";
import { checkArray, checkFunction } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { scope } from "./scope.js";
import { sameShape } from "./shape.js";
import { type FloatTensor, Tensor } from "./tensor.js";

const op = "gradientCheckpoint";

/**
 * Returns fn(...inputs), but keeps only the inputs for the backward pass. The backward pass runs `fn` a second time,
 * recorded, and differentiates that run (activation checkpointing). Only one such function at a time then needs memory
 * for the values between its inputs and its output; the price is the time of one more forward pass.
 *
 * `fn` must be synchronous and compute the same tensor both times: dropout in it must take the same seeds. Besides its
 * inputs (null for an optional one that is absent), it may use only tensors that outlive the backward pass, such as
 * parameters.
 *
 * @example
 * const w = parameter(randn([8, 8], { seed: 2 }));
 * const y = gradientCheckpoint((h) => gelu(linear(h, w)), [x]);
 * mean(y).backward();
 *
 * @throws ERR_ARGUMENT if `fn` is not a function, does not return a new tensor, or an input is neither a tensor nor
 *   null; ERR_AUTOGRAD if `fn` uses a tensor that requires a gradient and is neither a leaf nor an input. `backward()`
 *   fails with ERR_SHAPE if the second run gives another shape.
 * @see Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
 */
export function gradientCheckpoint<const Inputs extends readonly (Tensor | null)[]>(
  fn: (...inputs: Inputs) => FloatTensor,
  inputs: Inputs,
): FloatTensor {
  checkFunction(op, fn);
  checkArray(op, "inputs", inputs);
  for (const input of inputs)
    if (input !== null && !((input as unknown) instanceof Tensor))
      throw new HeedError("ERR_ARGUMENT", `${op}: expected inputs to be tensors or null, got ${describe(input)}`);
  if (!isRecording()) return scope(() => fn(...inputs));

  const requires = inputs.map((input) => input?.requiresGrad ?? false);
  // The first run is recorded too: a product that has nothing to keep may sum in another order.
  const first = scope(() => made(fn, leaves(inputs, requires)));
  if (!first.requiresGrad) return first;
  const out = detach(first);
  // The parameters are saved, so that backward() notices if they were overwritten before the second run.
  const own = leavesOf(first);
  const used = own.map((leaf, i) => [`parameter ${i}`, leaf] as const);
  first.dispose();
  const saved = Object.fromEntries([...inputs.entries(), ...used]) as Record<number, Tensor | null>;
  const backward = ({ dout, constant, pass, saved }: Backward<Record<number, Tensor | null>>): void =>
    scope(() => {
      const again = leaves(inputs.map((_, i) => saved[i] ?? null) as readonly (Tensor | null)[] as Inputs, requires);
      const out = made(fn, again);
      if (!sameShape(out.shape, dout.shape))
        throw new HeedError(
          "ERR_SHAPE",
          `${op}: expected the function to return the same shape in the backward pass, [${dout.shape.join(", ")}], got ${out}`,
        );
      propagate(out, dout.alias(), constant);
      for (const [i, leaf] of again.entries()) if (leaf?.grad) pass(i, leaf.grad);
    });
  attach(op, out, inputs, saved, backward, null, own);
  return out;
}

/** Returns the inputs that the function gets: views of the same memory, detached from the graph that made them. */
function leaves<Inputs extends readonly (Tensor | null)[]>(inputs: Inputs, requires: readonly boolean[]): Inputs {
  return inputs.map((input, i) => {
    const leaf = input && detach(input);
    if (leaf && requires[i]) leaf.requiresGrad = true;
    return leaf;
  }) as readonly (Tensor | null)[] as Inputs;
}

/** Runs the function and returns its result, with a graph that ends at the inputs. */
function made<Inputs extends readonly (Tensor | null)[]>(
  fn: (...inputs: Inputs) => FloatTensor,
  inputs: Inputs,
): FloatTensor {
  const before = stepsSoFar();
  const out = scope(() => recorded(op, () => fn(...inputs)));
  if (!((out as unknown) instanceof Tensor) || (out.requiresGrad && !out.node))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a function that returns a new tensor, got ${describe(out)}`);
  if (reachesBefore(out, before))
    throw new HeedError(
      "ERR_AUTOGRAD",
      `${op}: expected the function to use only leaves and its inputs; pass any other tensor that requires a gradient as an input`,
    );
  return out;
}
