/**
 * Reverse-mode differentiation over a tape.
 *
 * Each recorded operation is a `Step`. A step knows the steps that made its inputs, the tensors that it saved, and a
 * function that turns the gradients of its outputs into the gradients of its inputs. `backward()` runs the steps in the
 * reverse of the order in which they were recorded. The kernels write the first contribution to a gradient and
 * accumulate the later ones, also in the `grad` of parameters. Nothing is set to zero first.
 *
 * Lifetimes are counted and do not depend on the garbage collector: a step lives while one of its outputs lives, or a
 * step that consumed them. Its saved tensors are freed with it, or earlier, when its backward function has run. The
 * result of a cheap operation (a norm) is not kept for the steps that need it. It is recomputed from what its own step
 * saved (Chen et al. 2016).
 */
import { checkFunction, checkNumber, largestFloat } from "../util/check.js";
import type { FloatDType } from "./dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { Finals, leavesIn } from "./final-gradients.js";
import { ops } from "./native.js";
import { leaveScope } from "./scope.js";
import { sameShape } from "./shape.js";
import { allocate, type FloatTensor, type GraphNode, setRecorder, Tensor } from "./tensor.js";

/** Largest factor that `backward()` accepts, for each dtype of the tensor that it starts from. */
const largest: Record<FloatDType, number> = { f32: largestFloat, bf16: 2 ** 128 - 2 ** 120, f16: 65504 };

let recording = true;

/**
 * Runs `body` without recording and returns its result. Use it for inference, evaluation and updates of parameters.
 * `body` must be synchronous.
 *
 * @example
 * const w = parameter(randn([8, 4], { seed: 2 }));
 * const y = noGrad(() => matmul(x, w)); // y.requiresGrad is false
 *
 * @throws ERR_ARGUMENT if `body` is not a function or returns a promise.
 */
export function noGrad<T>(body: () => T): T {
  checkFunction("noGrad", body);
  return within("noGrad", false, body);
}

/** @internal Runs `body` with recording on, even during a backward pass, and returns its result. */
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
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected a synchronous function, got one that returns a promise; await it outside of ${op}()`,
      );
    }
    return result;
  } finally {
    recording = before;
  }
}

/**
 * Returns true if operations on tensors that require gradients are being recorded.
 *
 * @example
 * isRecording(); // true
 * noGrad(() => isRecording()); // false
 */
export function isRecording(): boolean {
  return recording;
}

/** Returns true if an operation on these inputs must be recorded. */
export function needsGrad(inputs: readonly (Tensor | null | undefined)[]): boolean {
  if (recording) for (const input of inputs) if (input?.requiresGrad) return true;
  return false;
}

/** Destination of a gradient: a slot of the step that made the input, or the `grad` of an input that is a leaf. */
type Target = { step: Step; index: number; leaf: null } | { step: null; index: 0; leaf: Tensor };

/** Memory for a gradient. If `accumulate` is true, `out` holds earlier contributions; otherwise it is uninitialised. */
export interface GradientSlot {
  out: FloatTensor;
  accumulate: boolean;
}

/** Context that a step's backward function receives. */
export interface Backward<Saved> {
  /** Gradient of the first output. */
  dout: FloatTensor;
  /** Gradients of all outputs; null for an output that the loss does not depend on. */
  douts: readonly (FloatTensor | null)[];
  saved: Saved;
  /** Returns true if input i needs a gradient. */
  needs: (i: number) => boolean;
  /**
   * Returns the memory for the gradient of input i. Call it once, only if `needs(i)`, and do not give its `out` to
   * `pass`.
   */
  gradient: (i: number) => GradientSlot;
  /**
   * Makes `value` the gradient of input i, or adds it to the gradient that is already there. It does nothing if the
   * input needs no gradient. It copies only if it must: the gradient shares the memory of `value`, unless the input is
   * a leaf and another tensor uses that memory too.
   */
  pass: (i: number, value: FloatTensor) => void;
  /** Value of `dout` if it is the constant that `backward()` started from; undefined for every other gradient. */
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
  /** Tensors in `kept`, and the versions that they had when they were saved, in the same order. */
  readonly #tensors: readonly (Tensor | null)[];
  readonly #versions: readonly (number | undefined)[];
  /** Recomputed first output. It is kept until this step's own backward, since no step after that needs it. */
  #remade: FloatTensor | null = null;

  constructor(
    readonly name: string,
    readonly outputs: { shape: readonly number[]; dtype: FloatTensor["dtype"]; device: Tensor["device"] }[],
    readonly targets: (Target | null)[],
    /** Saved tensors; null for those that are not kept. */
    readonly kept: SavedTensors,
    /** Name of each saved tensor that is not kept, with the step that recomputes it. */
    readonly sources: readonly [string, Step][],
    readonly run: (context: Backward<never>) => void,
    readonly remake: ((saved: never) => FloatTensor) | null,
    /** Leaves that get gradients in a backward pass within `run`, as that of a checkpoint does. */
    readonly inner: readonly Tensor[],
  ) {
    this.references = outputs.length;
    this.#tensors = Object.values(kept);
    this.#versions = this.#tensors.map((tensor) => tensor?.version);
    for (const target of targets) if (target?.step) target.step.references++;
    for (const [, source] of sources) source.references++;
  }

  /**
   * True if the first output can be recomputed. That must need kept tensors only, so that it never recurses through a
   * deep graph.
   */
  get remakes(): boolean {
    return this.remake !== null && this.sources.length === 0;
  }

  /** Saved tensors by name. A tensor that is not kept is recomputed when it is first read. */
  get saved(): SavedTensors {
    if (this.sources.length === 0) return this.kept;
    const saved = { ...this.kept };
    for (const [key, source] of this.sources)
      Object.defineProperty(saved, key, { get: () => (source.#remade ??= source.remake!(source.kept as never)) });
    return saved;
  }

  /**
   * Checks that no saved tensor has been overwritten since the forward pass, which would make the gradients wrong.
   *
   * @throws ERR_AUTOGRAD if one has been.
   */
  checkSaved(): void {
    for (let i = 0; i < this.#tensors.length; i++) {
      const tensor = this.#tensors[i];
      if (tensor?.version !== this.#versions[i])
        throw new HeedError(
          "ERR_AUTOGRAD",
          `backward: expected the tensors that ${this.name} saved in the forward pass to be unchanged, but its ` +
            `${Object.keys(this.kept)[i]}, ${tensor}, has been overwritten by set(), an optimiser's step or another ` +
            "in-place operation",
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

  /**
   * Frees the saved tensors and releases the steps before this one. It loops instead of recursing because graphs are
   * deep.
   */
  free(): void {
    if (this.done) return;
    const queue: Step[] = [this];
    for (let step = queue.pop(); step; step = queue.pop()) {
      if (step.done) continue;
      step.done = true;
      for (const tensor of step.#tensors) tensor?.dispose();
      if (step.gradients) for (const gradient of step.gradients) gradient?.dispose();
      step.gradients = null;
      step.forgetRemade();
      for (const target of step.targets) if (target?.step && --target.step.references === 0) queue.push(target.step);
      for (const [, source] of step.sources) if (--source.references === 0) queue.push(source);
    }
  }

  backward(output: Tensor, scale: number): void {
    const { dtype } = output as FloatTensor;
    if (output.size !== 1)
      throw new HeedError("ERR_SHAPE", `backward: expected a tensor of one element, got ${output}`);
    const steps = reachable(this);
    if (steps.some((step) => step.done))
      throw new HeedError(
        "ERR_AUTOGRAD",
        "backward: expected a graph that no earlier backward() has freed; run the forward pass again",
      );
    for (const step of steps) step.checkSaved();
    checkNumber("backward", "scale", scale, -largest[dtype], largest[dtype]);
    const root = allocate(output.shape, dtype, output.device, false);
    ops.fill({ out: root, value: scale });
    this.propagate(output.outputIndex, root, scale, steps);
  }

  /** Propagates `gradient`, which belongs to output number `index`, back through `steps` to the leaves. */
  propagate(index: number, gradient: FloatTensor, constant: number | undefined, steps = reachable(this)): void {
    const finals = Finals.begin(steps);
    this.gradients = this.outputs.map((_, i) => (i === index ? gradient : null));
    this.constant = constant;
    // If a step's outputs are disposed, only its consumers keep it alive. It must outlive them until its own backward
    // has run.
    for (const step of steps) step.references++;
    try {
      noGrad(() => {
        for (const step of steps) {
          if (step.gradients) differentiate(step);
          finals?.passed(step);
          step.free();
        }
      });
    } finally {
      finals?.end();
      for (const step of steps) step.free();
    }
  }
}

/** @internal Propagates the gradient of a recorded tensor back to the leaves; `Backward` explains `constant`. */
export function propagate(output: FloatTensor, gradient: FloatTensor, constant: number | undefined): void {
  (output.node as Step).propagate(output.outputIndex, gradient, constant);
}

/** @internal Returns the number of steps that have been recorded so far. */
export function stepsSoFar(): number {
  return counter;
}
/** @internal Returns true if a tensor was computed from the output of one of the first `steps` steps. */
export function reachesBefore({ node }: Tensor, steps: number): boolean {
  return node instanceof Step && reachable(node).some(({ order }) => order < steps);
}

/** @internal Returns the leaves that a tensor was computed from and that are not disposed. */
export function leavesOf({ node }: Tensor): Tensor[] {
  const leaves = new Set<Tensor>();
  for (const step of node instanceof Step ? reachable(node) : [])
    for (const leaf of leavesIn(step)) if (!leaf.disposed) leaves.add(leaf);
  return [...leaves];
}

/**
 * Returns every step that the gradient may reach, latest first. A step's inputs were always recorded before the step.
 */
function reachable(root: Step): Step[] {
  const found = new Set<Step>([root]);
  for (const step of found) for (const target of step.targets) if (target?.step) found.add(target.step);
  return [...found].sort((a, b) => b.order - a.order);
}

function current(target: Target): FloatTensor | null {
  return target.leaf ? target.leaf.grad : (target.step.gradients?.[target.index] ?? null);
}

function assign(target: Target, gradient: FloatTensor): void {
  if (target.leaf) target.leaf.grad = gradient;
  else (target.step.gradients ??= target.step.outputs.map(() => null))[target.index] = gradient;
}

/** Returns what has the shape, the dtype and the device of a destination. */
function likeOf(target: Target): Pick<FloatTensor, "shape" | "dtype" | "device"> {
  return target.leaf ? (target.leaf as FloatTensor) : target.step.outputs[target.index]!;
}

function fresh(target: Target): FloatTensor {
  const like = likeOf(target);
  const gradient = allocate(like.shape, like.dtype, like.device, false);
  assign(target, gradient);
  return gradient;
}

function slot(target: Target): GradientSlot {
  const existing = current(target);
  if (!existing) return { out: fresh(target), accumulate: false };
  if (existing.exclusive) return { out: existing, accumulate: true };
  // `pass` has let other tensors share this memory. What is added to this gradient must not show in them.
  const own = fresh(target);
  ops.copy({ out: own, inp: existing });
  existing.dispose();
  return { out: own, accumulate: true };
}

/** Makes `value` the gradient of input i, or adds it to that gradient; see `Backward.pass`. */
function pass(step: Step, i: number, value: FloatTensor): void {
  const to = step.targets[i];
  if (!to) return;
  const like = likeOf(to);
  if (!sameShape(like.shape, value.shape))
    throw new HeedError("ERR_INTERNAL", `${step.name}: gradient ${i} has shape ${value.shape.join(", ")}`);
  // A leaf's gradient outlives the backward pass, and the user may change it. It may share memory with `value` only,
  // which the caller disposes.
  const shares = to.step !== null || value.exclusive;
  if (shares && !current(to) && like.dtype === value.dtype) return assign(to, value.alias());
  const { out, accumulate } = slot(to);
  ops.copy({ out, inp: value, accumulate });
}

function differentiate(step: Step): void {
  step.forgetRemade();
  const { targets } = step;
  const douts = step.gradients!;
  const context: Backward<SavedTensors> = {
    douts,
    dout: douts[0]!,
    saved: step.saved,
    constant: step.constant,
    needs: (i) => targets[i] != null,
    gradient: (i) => {
      const target = targets[i];
      if (!target) throw new HeedError("ERR_INTERNAL", `${step.name}: gradient ${i} was not asked for`);
      return slot(target);
    },
    pass: (i, value) => pass(step, i, value),
  };
  step.run(context as Backward<never>);
  // Nobody could free the gradient of a leaf that has been disposed.
  for (const target of targets) if (target?.leaf?.disposed) target.leaf.zeroGrad();
}

let recomputes = true;

/** Returns whether outputs that cost little are computed again in the backward pass; see `setRecompute`. */
export function recompute(): boolean {
  return recomputes;
}

/**
 * Chooses what becomes of the outputs of norms and gated activations that the backward pass needs. By default they are not
 * kept but computed again there, bit for bit, which saves their memory. `setRecompute(false)` keeps them: the backward pass
 * of a GPT block then takes 15 launches of kernels instead of 17, which counts where a GPU waits for launches rather than
 * for memory. The setting holds for this thread and for what is recorded from now on.
 *
 * @throws ERR_ARGUMENT where `allowed` is no boolean
 */
export function setRecompute(allowed: boolean): void {
  if (typeof allowed !== "boolean")
    throw new HeedError("ERR_ARGUMENT", `setRecompute: expected true or false, got ${describe(allowed)}`);
  recomputes = allowed;
}

/**
 * Records an operation if one of its inputs requires a gradient, and returns the output(s).
 *
 * @param inputs tensors that gradients may flow to, in the order in which `backward` numbers them; null for an optional
 *   input that is absent
 * @param saved tensors that `backward` needs; they are shared, not copied
 * @param remake recomputes the first output, bit for bit and outside every scope. Give it if recomputing costs next to
 *   nothing compared with the steps that save this output: those steps then do not keep it.
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

/**
 * @internal Records an operation even if none of its inputs requires a gradient: `fn` of a checkpoint may read
 * parameters. The parameters are those of `record`; `inner` are leaves that get their gradients within `backward`.
 */
export function attach<Saved extends SavedTensors>(
  name: string,
  outputs: FloatTensor | readonly FloatTensor[],
  inputs: readonly (Tensor | null | undefined)[],
  saved: Saved,
  backward: (context: Backward<Saved>) => void,
  remake: ((saved: Saved) => FloatTensor) | null = null,
  inner: readonly Tensor[] = [],
): void {
  const list: readonly FloatTensor[] = Array.isArray(outputs) ? outputs : [outputs as FloatTensor];
  const targets = inputs.map(targetOf);
  for (const target of targets)
    if (target?.step?.done)
      throw new HeedError(
        "ERR_AUTOGRAD",
        `${name}: expected inputs whose graph no earlier backward() has freed; run the forward pass again`,
      );
  const kept: SavedTensors = { ...saved };
  const sources: [string, Step][] = [];
  for (const key in kept) {
    const tensor = kept[key];
    if (!tensor) continue;
    const source = recomputes && tensor.outputIndex === 0 && tensor.node instanceof Step ? tensor.node : null;
    if (source?.remakes) sources.push([key, source]);
    kept[key] = source?.remakes ? null : tensor.alias();
  }
  const outputsLike = list.map(({ shape, dtype, device }) => ({ shape, dtype, device }));
  const step = new Step(name, outputsLike, targets, kept, sources, backward, remake, inner);
  for (const [index, output] of list.entries()) {
    output.node = step;
    output.outputIndex = index;
  }
}

/** Returns the destination of an input's gradient; null if it needs none. */
function targetOf(input: Tensor | null | undefined): Target | null {
  if (!input?.requiresGrad) return null;
  return input.node instanceof Step
    ? { step: input.node, index: input.outputIndex, leaf: null }
    : { step: null, index: 0, leaf: input };
}

function checkLive(op: string, value: unknown): void {
  if (!(value instanceof Tensor))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a tensor, got ${describe(value)}`);
  if (value.disposed)
    throw new HeedError("ERR_DISPOSED", `${op}: expected a live tensor, got a disposed one: ${value}`);
}

/**
 * Makes a tensor a trainable leaf and returns it. It outlives every scope, and `backward()` leaves its gradient in
 * `grad`.
 *
 * @example
 * const w = parameter(randn([8, 4], { seed: 2 }));
 * mean(matmul(x, w)).backward();
 * w.grad!.shape; // [8, 4]
 *
 * @throws ERR_AUTOGRAD if a recorded operation made the tensor; ERR_DTYPE if its dtype is not a floating one.
 */
export function parameter<T extends FloatTensor>(tensor: T): T {
  checkLive("parameter", tensor);
  leaveScope(tensor);
  tensor.requiresGrad = true;
  return tensor;
}

/**
 * Returns a view of the same elements without the recorded graph: gradients stop here.
 *
 * @example
 * const w = parameter(ones([8, 4]));
 * const y = detach(matmul(x, w)); // y.requiresGrad is false
 */
export function detach<T extends Tensor>(tensor: T): T {
  checkLive("detach", tensor);
  return tensor.viewAs(tensor.shape, tensor.strides) as T;
}
