/**
 * Reverse-mode differentiation over a tape.
 *
 * Each recorded operation is a `Step` that knows the steps its inputs came from, what it saved, and how to turn the
 * gradients of its outputs into those of its inputs. `backward()` runs the steps in the reverse of the order they were
 * recorded in. A gradient is written by its first contribution and accumulated by the others, straight from the
 * kernels, also into the `grad` of parameters; nothing is zeroed first.
 *
 * Lifetimes are counted, not left to the garbage collector: a step lives while one of its outputs or a step that
 * consumed them does, and what it saved goes with it, or as soon as its backward has run. What is cheap to compute
 * (a norm) is not kept for the steps after it, but remade from what its own step saved (Chen et al. 2016).
 */
import { checkFunction, checkNumber, largestFloat } from "./check.js";
import type { FloatDType } from "./dtype.js";
import { describe, HeedError } from "./errors.js";
import { ops } from "./native.js";
import { leaveScope } from "./scope.js";
import { sameShape } from "./shape.js";
import { allocate, type FloatTensor, type GraphNode, setRecorder, Tensor } from "./tensor.js";

/** The largest factor of a backward pass, by the dtype of the tensor that it starts from. */
const largest: Record<FloatDType, number> = { f32: largestFloat, bf16: 2 ** 128 - 2 ** 120, f16: 65504 };

let recording = true;

/** Runs `body` without recording: for inference, evaluation and updates. Synchronous, as `scope` is. */
export function noGrad<T>(body: () => T): T {
  checkFunction("noGrad", body);
  return within("noGrad", false, body);
}

/** @internal Runs `body` recorded, also in the midst of a backward pass. */
export function recorded<T>(op: string, body: () => T): T {
  return within(op, true, body);
}

function within<T>(op: string, records: boolean, body: () => T): T {
  const before = recording;
  recording = records;
  try {
    const result = body();
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw new HeedError("ERR_ARGUMENT", `${op}: expected a synchronous function; await its results outside of it`);
    }
    return result;
  } finally {
    recording = before;
  }
}

/** Whether operations on tensors that require gradients are being recorded. */
export function isRecording(): boolean {
  return recording;
}

/** Whether an operation on these inputs is to be recorded. */
export function needsGrad(inputs: readonly (Tensor | null | undefined)[]): boolean {
  return recording && inputs.some((input) => input?.requiresGrad);
}

/** Where a gradient goes: an input's own `grad` (a leaf) or a slot of the step that made it. */
type Target = { step: Step; index: number } | { leaf: Tensor };

/** A gradient to write: `out` is uninitialised if `accumulate` is false, else holds earlier contributions. */
export interface GradientSlot {
  out: FloatTensor;
  accumulate: boolean;
}

/** What a step's backward function gets. */
export interface Backward<Saved> {
  /** Gradient of the first output. */
  dout: FloatTensor;
  /** Gradients of all outputs; null where an output took no part. */
  douts: readonly (FloatTensor | null)[];
  saved: Saved;
  /** Whether input i wants a gradient. */
  needs: (i: number) => boolean;
  /** Where to write input i's gradient. Call once, and only where `needs(i)`; what it gives is not to be passed on. */
  gradient: (i: number) => GradientSlot;
  /**
   * Makes `value` the gradient of input i, or adds it to what is there. Ignored where not needed. Nothing is copied that
   * need not be: the gradient shares the memory of `value`, that of a leaf only where nobody else does.
   */
  pass: (i: number, value: FloatTensor) => void;
  /** What the gradient is, as a number, where it is the root's constant; undefined elsewhere. */
  constant: number | undefined;
}

type SavedTensors = Record<string, Tensor | null>;

let counter = 0;

class Step implements GraphNode {
  readonly order = counter++;
  references: number;
  gradients: (FloatTensor | null)[] | null = null;
  constant: number | undefined;
  done = false;
  /** Versions of what is kept, in its order. */
  readonly #versions: readonly (number | undefined)[];
  /** The first output, from when it is remade until this step's own backward: no step after it is left to need it. */
  #remade: FloatTensor | null = null;

  constructor(
    readonly name: string,
    readonly outputs: { shape: readonly number[]; dtype: FloatTensor["dtype"]; device: Tensor["device"] }[],
    readonly targets: (Target | null)[],
    readonly kept: SavedTensors,
    /** What was saved but not kept, by its name, and the steps that remake it. */
    readonly sources: readonly [string, Step][],
    readonly run: (context: Backward<never>) => void,
    readonly remake: ((saved: never) => FloatTensor) | null,
  ) {
    this.references = outputs.length;
    this.#versions = Object.values(kept).map((tensor) => tensor?.version);
    for (const target of targets) if (target && "step" in target) target.step.references++;
    for (const [, source] of sources) source.references++;
  }

  /** Whether its first output can be remade: from what is kept, so that remaking never goes on through a deep graph. */
  get remakes(): boolean {
    return this.remake !== null && this.sources.length === 0;
  }

  /** What was saved; what is not kept is remade when it is first looked at. */
  get saved(): SavedTensors {
    if (this.sources.length === 0) return this.kept;
    const saved = { ...this.kept };
    for (const [key, source] of this.sources)
      Object.defineProperty(saved, key, { get: () => (source.#remade ??= source.remake!(source.kept as never)) });
    return saved;
  }

  /** Throws ERR_AUTOGRAD where what was saved has been overwritten since: gradients of it would be wrong. */
  checkSaved(): void {
    let i = 0;
    for (const key in this.kept) {
      const tensor = this.kept[key];
      if (tensor?.version !== this.#versions[i++])
        throw new HeedError(
          "ERR_AUTOGRAD",
          `backward: expected what ${this.name} saved to stay as it was in the forward pass, but its ${key}, ${tensor}, ` +
            "has been overwritten by set(), an optimiser's step or another operation in place",
        );
    }
    for (const [, source] of this.sources) source.checkSaved();
  }

  forgetRemade(): void {
    this.#remade?.dispose();
    this.#remade = null;
  }

  unreference(): void {
    if (--this.references === 0) this.free();
  }

  /** Lets go of what was saved and of the steps before; iterative, since graphs are deep. */
  free(): void {
    const queue: Step[] = [this];
    for (let step = queue.pop(); step; step = queue.pop()) {
      if (step.done) continue;
      step.done = true;
      for (const tensor of Object.values(step.kept)) tensor?.dispose();
      for (const gradient of step.gradients ?? []) gradient?.dispose();
      step.gradients = null;
      step.forgetRemade();
      const leave = (before: Step): void => {
        if (--before.references === 0) queue.push(before);
      };
      for (const target of step.targets) if (target && "step" in target) leave(target.step);
      for (const [, source] of step.sources) leave(source);
    }
  }

  backward(output: Tensor, scale: number): void {
    const { dtype } = output as FloatTensor;
    if (output.size !== 1)
      throw new HeedError("ERR_SHAPE", `backward: expected a tensor of one element, got ${output}`);
    const steps = reachable(this);
    if (steps.some((step) => step.done))
      throw new HeedError("ERR_AUTOGRAD", "backward: expected a graph not used up by an earlier backward()");
    for (const step of steps) step.checkSaved();
    checkNumber("backward", "scale", scale, -largest[dtype], largest[dtype]);
    const root = allocate(output.shape, dtype, output.device, false);
    ops.fill({ out: root, value: scale });
    this.propagate(output.outputIndex, root, scale);
  }

  /** Takes `gradient`, of one of the outputs, back to the leaves. */
  propagate(index: number, gradient: FloatTensor, constant: number | undefined): void {
    const steps = reachable(this);
    this.gradients = this.outputs.map((_, i) => (i === index ? gradient : null));
    this.constant = constant;
    // A step whose outputs are disposed lives by its consumers alone: it must outlast their end, until its own turn.
    for (const step of steps) step.references++;
    try {
      noGrad(() => {
        for (const step of steps) {
          if (step.gradients) differentiate(step);
          step.free();
        }
      });
    } finally {
      for (const step of steps) step.free();
    }
  }
}

/** @internal Takes a gradient of a recorded tensor back to the leaves; `constant` as in {@link Backward}. */
export function propagate(output: FloatTensor, gradient: FloatTensor, constant: number | undefined): void {
  (output.node as Step).propagate(output.outputIndex, gradient, constant);
}

/** @internal How many steps there have been; and whether a tensor was made from what they made. */
export function stepsSoFar(): number {
  return counter;
}
export function reachesBefore({ node }: Tensor, steps: number): boolean {
  return node instanceof Step && reachable(node).some(({ order }) => order < steps);
}

/** @internal The leaves that a tensor was made from and that there still are. */
export function leavesOf({ node }: Tensor): Tensor[] {
  const leaves = new Set<Tensor>();
  for (const { targets } of node instanceof Step ? reachable(node) : [])
    for (const target of targets) if (target && "leaf" in target && !target.leaf.disposed) leaves.add(target.leaf);
  return [...leaves];
}

/** Every step the gradient may reach, latest first: inputs were recorded before their consumers. */
function reachable(root: Step): Step[] {
  const found = new Set<Step>([root]);
  for (const step of found) for (const target of step.targets) if (target && "step" in target) found.add(target.step);
  return [...found].sort((a, b) => b.order - a.order);
}

function current(target: Target): FloatTensor | null {
  return "leaf" in target ? target.leaf.grad : (target.step.gradients?.[target.index] ?? null);
}

function assign(target: Target, gradient: FloatTensor): void {
  if ("leaf" in target) target.leaf.grad = gradient;
  else (target.step.gradients ??= target.step.outputs.map(() => null))[target.index] = gradient;
}

function fresh(target: Target): FloatTensor {
  const like = "leaf" in target ? (target.leaf as FloatTensor) : target.step.outputs[target.index]!;
  const gradient = allocate(like.shape, like.dtype, like.device, false);
  assign(target, gradient);
  return gradient;
}

function slot(target: Target): GradientSlot {
  const existing = current(target);
  if (!existing) return { out: fresh(target), accumulate: false };
  if (existing.exclusive) return { out: existing, accumulate: true };
  // Others share its memory, as `pass` left it: what is added to this one must not show in theirs.
  const own = fresh(target);
  ops.copy({ out: own, inp: existing });
  existing.dispose();
  return { out: own, accumulate: true };
}

function differentiate(step: Step): void {
  step.forgetRemade();
  const douts = step.gradients!;
  const target = (i: number): Target => {
    const found = step.targets[i];
    if (!found) throw new HeedError("ERR_INTERNAL", `${step.name}: gradient ${i} was not asked for`);
    return found;
  };
  const pass = (i: number, value: FloatTensor): void => {
    const to = step.targets[i];
    if (!to) return;
    const like = "leaf" in to ? to.leaf : to.step.outputs[to.index]!;
    if (!sameShape(like.shape, value.shape))
      throw new HeedError("ERR_INTERNAL", `${step.name}: gradient ${i} has shape ${value.shape.join(", ")}`);
    // A leaf's gradient outlives the pass, and the user may change it: then only the caller, who lets go, shares it.
    const shares = "step" in to || value.exclusive;
    if (shares && !current(to) && like.dtype === value.dtype) return assign(to, value.alias());
    const { out, accumulate } = slot(to);
    ops.copy({ out, inp: value, accumulate });
  };
  const context: Backward<SavedTensors> = {
    douts,
    dout: douts[0]!,
    saved: step.saved,
    constant: step.constant,
    needs: (i) => step.targets[i] != null,
    gradient: (i) => slot(target(i)),
    pass,
  };
  step.run(context as Backward<never>);
  // Nobody could free the gradient of a leaf that is gone.
  for (const to of step.targets) if (to && "leaf" in to && to.leaf.disposed) to.leaf.zeroGrad();
}

/**
 * Records an operation if one of its inputs requires a gradient, and returns the output(s).
 *
 * @param inputs what gradients may flow to, in the order `backward` numbers them; null where an optional one is absent
 * @param saved what `backward` needs again; shared, not copied
 * @param remake computes the first output again, bit for bit, in no scope. For what costs next to nothing beside the
 *   steps that save that output: they do not keep it then
 */
export function record<Outputs extends FloatTensor | readonly FloatTensor[], Saved extends SavedTensors>(
  name: string,
  outputs: Outputs,
  inputs: readonly (Tensor | null | undefined)[],
  saved: Saved,
  backward: (context: Backward<Saved>) => void,
  remake: ((saved: Saved) => FloatTensor) | null = null,
): Outputs {
  if (needsGrad(inputs)) attach(name, outputs, inputs, saved, backward, remake);
  return outputs;
}

setRecorder((name, output, input, backward) => {
  record(name, output, [input], {}, ({ dout, pass }) => backward(dout, (dinp) => pass(0, dinp)));
});

/** @internal As `record`, also where what requires a gradient is none of the inputs. */
export function attach<Saved extends SavedTensors>(
  name: string,
  outputs: FloatTensor | readonly FloatTensor[],
  inputs: readonly (Tensor | null | undefined)[],
  saved: Saved,
  backward: (context: Backward<Saved>) => void,
  remake: ((saved: Saved) => FloatTensor) | null = null,
): void {
  const list: readonly FloatTensor[] = Array.isArray(outputs) ? outputs : [outputs as FloatTensor];
  const targets = inputs.map((input): Target | null =>
    !input?.requiresGrad
      ? null
      : input.node instanceof Step
        ? { step: input.node, index: input.outputIndex }
        : { leaf: input },
  );
  for (const target of targets)
    if (target && "step" in target && target.step.done)
      throw new HeedError(
        "ERR_AUTOGRAD",
        `${name}: expected inputs whose graph is not used up by an earlier backward()`,
      );
  const kept: SavedTensors = {};
  const sources: [string, Step][] = [];
  for (const [key, tensor] of Object.entries(saved)) {
    const source = tensor?.outputIndex === 0 && tensor.node instanceof Step ? tensor.node : null;
    if (source?.remakes) sources.push([key, source]);
    else kept[key] = tensor ? tensor.alias() : null;
  }
  const step = new Step(
    name,
    list.map(({ shape, dtype, device }) => ({ shape, dtype, device })),
    targets,
    kept,
    sources,
    backward,
    remake,
  );
  list.forEach((output, index) => {
    output.node = step;
    output.outputIndex = index;
  });
}

function checkLive(op: string, value: unknown): void {
  if (!(value instanceof Tensor))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a tensor, got ${describe(value)}`);
  if (value.disposed)
    throw new HeedError("ERR_DISPOSED", `${op}: expected a live tensor, got a disposed one: ${value}`);
}

/** Makes a tensor a trainable leaf: it outlives scopes and `backward()` leaves its gradient in `grad`. */
export function parameter<T extends FloatTensor>(tensor: T): T {
  checkLive("parameter", tensor);
  leaveScope(tensor);
  tensor.requiresGrad = true;
  return tensor;
}

/** The same elements without the graph: gradients stop here. */
export function detach<T extends Tensor>(tensor: T): T {
  checkLive("detach", tensor);
  return tensor.viewAs(tensor.shape, tensor.strides) as T;
}
