import { attach, detach, isRecording, leavesOf, propagate, reachesBefore, recorded, stepsSoFar } from "./autograd.js";
import { checkArray, checkFunction } from "./check.js";
import { describe, HeedError } from "./errors.js";
import { scope } from "./scope.js";
import { sameShape } from "./shape.js";
import { type FloatTensor, Tensor } from "./tensor.js";

const op = "gradientCheckpoint";

/**
 * fn(...inputs), of which the graph keeps the inputs alone: the backward pass runs `fn` a second time, recorded, and goes
 * back through that (activation checkpointing, Chen et al. 2016). What lies between inputs and output then takes memory
 * for one such function at a time, for the time of one more forward pass.
 *
 * `fn` is synchronous and gives the same tensor both times: dropout in it takes the same seeds. Of tensors made outside
 * it may use its inputs, null where an optional one is absent, and what outlives the backward pass, as parameters do.
 */
export function gradientCheckpoint<const Inputs extends readonly (Tensor | null)[]>(
  fn: (...inputs: Inputs) => FloatTensor,
  inputs: Inputs,
): FloatTensor {
  checkFunction(op, fn);
  checkArray(op, "inputs", inputs);
  for (const input of inputs)
    if (input !== null && !((input as unknown) instanceof Tensor))
      throw new HeedError("ERR_ARGUMENT", `${op}: expected inputs to be tensors and nulls, got ${describe(input)}`);
  if (!isRecording()) return scope(() => fn(...inputs));

  const requires = inputs.map((input) => input?.requiresGrad ?? false);
  // Recorded the first time too: a product may sum in another order where it has nothing to keep.
  const first = scope(() => made(fn, leaves(inputs, requires)));
  if (!first.requiresGrad) return first;
  const out = detach(first);
  // Parameters, which the second run must find as the first did.
  const used = leavesOf(first).map((leaf, i) => [`parameter ${i}`, leaf] as const);
  first.dispose();
  const saved = Object.fromEntries([...inputs.entries(), ...used]) as Record<number, Tensor | null>;
  attach(op, out, inputs, saved, ({ dout, constant, pass, saved }) => {
    scope(() => {
      const again = leaves(inputs.map((_, i) => saved[i] ?? null) as readonly (Tensor | null)[] as Inputs, requires);
      const out = made(fn, again);
      if (!sameShape(out.shape, dout.shape))
        throw new HeedError("ERR_SHAPE", `${op}: expected a function that gives the same both times, got ${out}`);
      propagate(out, dout.alias(), constant);
      for (const [i, leaf] of again.entries()) if (leaf?.grad) pass(i, leaf.grad);
    });
  });
  return out;
}

/** The inputs as the function gets them: of the same memory, without the graph that they come from. */
function leaves<Inputs extends readonly (Tensor | null)[]>(inputs: Inputs, requires: readonly boolean[]): Inputs {
  return inputs.map((input, i) => {
    const leaf = input && detach(input);
    if (leaf && requires[i]) leaf.requiresGrad = true;
    return leaf;
  }) as readonly (Tensor | null)[] as Inputs;
}

/** What the function makes of its inputs, with a graph that ends at them. */
function made<Inputs extends readonly (Tensor | null)[]>(
  fn: (...inputs: Inputs) => FloatTensor,
  inputs: Inputs,
): FloatTensor {
  const before = stepsSoFar();
  const out = scope(() => recorded(op, () => fn(...inputs)));
  if (!((out as unknown) instanceof Tensor) || (out.requiresGrad && !out.node))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a function that makes a new tensor, got ${describe(out)}`);
  if (reachesBefore(out, before))
    throw new HeedError("ERR_AUTOGRAD", `${op}: expected what requires a gradient to be a leaf or among the inputs`);
  return out;
}
