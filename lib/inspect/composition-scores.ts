import { noGrad } from "../core/autograd.js";
import { checkBoolean, checkChoice, checkObject } from "../util/check.js";
import { div, maximum, mul } from "../ops/binary.js";
import { matmul } from "../ops/matmul.js";
import { sum } from "../ops/reduce.js";
import { sqrt } from "../ops/unary.js";
import { reshape, transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { type InspectedStack, stackOf } from "./hook-names.js";
import { headMatrices } from "./module-weights.js";

const kinds = ["q", "k", "v"] as const;

/** Way in which a later head uses what an earlier one writes: in its queries, its keys or its values. */
export type Composition = (typeof kinds)[number];

/** Options of `compositionScores`. */
export interface CompositionOptions {
  /** Way in which the later head uses the earlier one's output. */
  composition: Composition;
  /** True if the norms before the later heads are part of their matrices. @default false */
  foldNorm?: boolean;
}

/**
 * Resolves to how much each head reads what heads of earlier blocks write,
 * `scores[layer][head][earlierLayer][earlierHead]`: ‖A·B‖ / (‖A‖·‖B‖) with Frobenius norms. A is the OV circuit of the
 * earlier head; B is the later one's QK circuit for "q", its transpose for "k", and the OV circuit for "v". Two random
 * matrices have a score of about 1/√C.
 *
 * @example
 * const scores = await compositionScores(gpt, { composition: "k" });
 * scores[1]![0]![0]![1]; // how much the keys of head 0 of the second block read head 1 of the first
 *
 * @throws ERR_ARGUMENT if an option has an unknown value.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export async function compositionScores(model: InspectedStack, options: CompositionOptions): Promise<number[][][][]> {
  const op = "compositionScores";
  checkObject(op, "options", options);
  const { composition, foldNorm = false } = options;
  checkChoice(op, "composition", composition, kinds);
  checkBoolean(op, "foldNorm", foldNorm);
  const layers = layersOf(model);
  const reads = Array.from({ length: layers }, (_, later) =>
    Array.from({ length: later }, (_, earlier) =>
      noGrad(() =>
        scope(() => {
          const writes = headMatrices(op, model, { layer: earlier }, false);
          const { q, k, v, o } = headMatrices(op, model, { layer: later }, foldNorm);
          const [left, right] = { q: [q, k] as const, k: [k, q] as const, v: [v, transpose(o)] as const }[composition];
          const table = scoresOf([writes.v, writes.o], [left, transpose(right)]);
          return { shape: table.shape, read: table.data() };
        }),
      ),
    ),
  );
  const heads = reads[1]?.[0]?.shape[1] ?? headsOf(op, model);
  return Promise.all(
    reads.map(async (earlier) => {
      const tables = await Promise.all(earlier.map(({ read }) => read)); // each [H, H'], earlier by later
      return Array.from({ length: heads }, (_, head) =>
        tables.map((table) => Array.from({ length: heads }, (_, other) => table[other * heads + head]!)),
      );
    }),
  );
}

function layersOf(model: InspectedStack): number {
  return stackOf(model).config.layers;
}

function headsOf(op: string, model: InspectedStack): number {
  return noGrad(() => scope(() => headMatrices(op, model, { layer: 0 }, false).q.shape[0]!));
}

/** A product of two thin matrices for each head: [H, C, D] and [H, D, C]. */
type Thin = readonly [FloatTensor, FloatTensor];

/** Returns ‖A·B‖ / (‖A‖·‖B‖) for each A and each B, [H, H']. */
function scoresOf([a1, a2]: Thin, [b1, b2]: Thin): FloatTensor {
  const [left, inner] = [matmul(transpose(a1), a1), matmul(a2, transpose(a2))]; // A₁ᵀA₁ and A₂A₂ᵀ, [H, D, D]
  const [outer, right] = [matmul(transpose(b1), b1), matmul(b2, transpose(b2))]; // B₁ᵀB₁ and B₂B₂ᵀ, [H', D', D']
  const between = matmul(apart(a2, 1), apart(b1, 0)); // A₂·B₁, [H, H', D, D']
  // ‖A·B‖² = tr(B₂ᵀ·Mᵀ·A₁ᵀA₁·M·B₂) with M = A₂·B₁, which is the sum of (A₁ᵀA₁·M) ∘ (M·B₂B₂ᵀ).
  const both = mul(matmul(apart(left, 1), between), matmul(between, apart(right, 0)));
  const norm = sqrt(maximum(sum(both, { axes: [-2, -1] }), 0));
  const size = (x: FloatTensor, y: FloatTensor): FloatTensor => sqrt(sum(mul(x, y), { axes: [-2, -1] }));
  return div(div(norm, reshape(size(left, inner), [-1, 1])), size(outer, right));
}

/** Inserts a dimension of 1 at an axis of [H, …, …]. */
function apart(x: FloatTensor, axis: 0 | 1): FloatTensor {
  const [heads, ...rest] = x.shape as [number, number, number];
  return reshape(x, axis === 0 ? [1, heads, ...rest] : [heads, 1, ...rest]);
}
