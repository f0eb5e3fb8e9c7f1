import { noGrad, record } from "../core/autograd.js";
import { checkArray, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import type { Hook } from "../nn/observer.js";
import { checkFloat } from "../ops/check.js";
import { narrow } from "../ops/views.js";
import { scope } from "../core/scope.js";
import { broadcastShapes, formatShape, sameShape } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";

/** Part of a value that a hook changes. A negative index counts from the end. */
export interface EditPlace {
  /** Sequences of the batch. @default all */
  sequences?: readonly number[];
  /** Positions of tokens; for scores and patterns, those of the queries. @default all */
  positions?: readonly number[];
  /** Heads, for values that have them. @default all */
  heads?: readonly number[];
}

/**
 * Returns a hook that replaces a value, or a part of it, by another one: a number, or a tensor of a shape that broadcasts
 * to the value's. 0 ablates; a mean over texts ablates by the mean; a value of another run patches. No gradient flows to
 * `source`.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const hooks = { "blocks.0.attn.hook_z": replaceWith(0, { heads: [1] }) }; // without head 1 of the first block
 * noGrad(() => run(gpt, ids, { hooks })).shape; // [1, 3, 256]
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE or ERR_RANGE, when the hook runs, if the source or a place does not fit the value.
 */
export function replaceWith(source: FloatTensor | number, place: EditPlace = {}): Hook {
  return edit("replaceWith", source, place, (out, from) => {
    if (typeof from === "number") ops.fill({ out, value: from });
    else ops.copy({ out, inp: from });
  });
}

/**
 * Returns a hook that adds to a value, or to a part of it: a number, or a tensor of a shape that broadcasts to the
 * value's. To steer a model, add a vector [C] to its residual stream. No gradient flows to `vector`.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const direction = randn([16], { seed: 1 });
 * const hooks = { "blocks.1.hook_resid_pre": addTo(direction, { positions: [-1] }) };
 * noGrad(() => run(gpt, ids, { hooks })).shape; // [1, 3, 256]
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE or ERR_RANGE, when the hook runs, if the vector or a place does not fit the value.
 */
export function addTo(vector: FloatTensor | number, place: EditPlace = {}): Hook {
  return edit("addTo", vector, place, (out, from) => {
    if (typeof from !== "number") return ops.copy({ out, inp: from, accumulate: true });
    const one: FloatTensor = allocate(out.shape, out.dtype, out.device);
    ops.fill({ out: one, value: from });
    ops.copy({ out, inp: one, accumulate: true });
  });
}

/** Writes from a source to a part of a value; both have the same shape, unless the source is a number. */
type Write = (out: FloatTensor, from: FloatTensor | number) => void;

function edit(op: "replaceWith" | "addTo", source: FloatTensor | number, place: EditPlace, write: Write): Hook {
  checkObject(op, "place", place);
  if (typeof source === "number") checkNumber(op, "source", source);
  else checkFloat(op, "source", source);
  return (value, name) => {
    const from = typeof source === "number" ? source : stretched(op, source, value, name);
    const regions = regionsOf(op, value, name, place);
    const out: FloatTensor = allocate(value.shape, value.dtype, value.device);
    noGrad(() =>
      scope(() => {
        ops.copy({ out, inp: value });
        for (const region of regions) write(part(out, region), typeof from === "number" ? from : part(from, region));
      }),
    );
    return record(op, out, [value], {}, ({ dout, gradient, pass }) => {
      if (op === "addTo") return pass(0, dout);
      const { out: dvalue, accumulate } = gradient(0);
      using kept: FloatTensor = allocate(dout.shape, dout.dtype, dout.device, false);
      ops.copy({ out: kept, inp: dout });
      scope(() => {
        for (const region of regions) ops.fill({ out: part(kept, region), value: 0 });
      });
      ops.copy({ out: dvalue, inp: kept, accumulate });
    });
  };
}

/** Returns a view of the source with the shape and dtype of the value. */
function stretched(op: string, source: FloatTensor, value: FloatTensor, name: string): FloatTensor {
  const { shape } = value;
  const fits = source.shape.length <= shape.length && sameShape(broadcastShapes(op, source.shape, shape), shape);
  if (!fits)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected a source that broadcasts to ${name}, ${formatShape(shape)}, got ${formatShape(source.shape)}`,
    );
  return noGrad(() => {
    const cast = source.to(value.device).to(value.dtype);
    const missing = shape.length - cast.shape.length;
    const strides = shape.map((size, i) => {
      const own = cast.shape[i - missing];
      return own === undefined || (own === 1 && size !== 1) ? 0 : cast.strides[i - missing]!;
    });
    return cast.viewAs(shape, strides);
  });
}

/** Start and length along each dimension. */
type Region = readonly (readonly [start: number, length: number])[];

function part(x: FloatTensor, region: Region): FloatTensor {
  return region.reduce((view, [start, length], axis) => narrow(view, axis, start, length), x);
}

/** Returns the boxes that make up a place in a value. */
function regionsOf(op: string, { shape }: FloatTensor, name: string, place: EditPlace): Region[] {
  const { sequences, positions, heads } = place;
  const byQuery = /hook_(attn_scores|pattern)$/.test(name); // [B, H, T, S]
  if (heads && shape.length < 4)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected no heads for ${name}, which has none`);
  const chosen = [sequences, ...(byQuery ? [heads, positions] : [positions, heads])];
  const labels = ["sequences", ...(byQuery ? ["heads", "positions"] : ["positions", "heads"])];
  return shape.reduce<Region[]>(
    (regions, size, axis) => {
      const ranges = chosen[axis] ? rangesOf(op, labels[axis]!, chosen[axis], size) : [[0, size] as const];
      return regions.flatMap((region) => ranges.map((range) => [...region, range]));
    },
    [[]],
  );
}

/** Returns the ranges of neighbours among indices, each once. */
function rangesOf(op: string, label: string, indices: readonly number[], size: number): [number, number][] {
  checkArray(op, label, indices);
  indices.forEach((index, i) => checkInteger(op, `${label}[${i}]`, index, -size, size - 1));
  const sorted = [...new Set(indices.map((index) => (index < 0 ? index + size : index)))].sort((a, b) => a - b);
  const ranges: [number, number][] = [];
  for (const index of sorted) {
    const last = ranges.at(-1);
    if (last && last[0] + last[1] === index) last[1] += 1;
    else ranges.push([index, 1]);
  }
  return ranges;
}
