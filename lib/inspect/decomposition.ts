import { noGrad } from "../core/autograd.js";
import { checkNumber } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { abs } from "../ops/unary.js";
import { add, sub } from "../ops/binary.js";
import { max } from "../ops/reduce.js";
import { narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { InspectedDecoder } from "./hook-names.js";
import { partLogits, partNames, streamParts } from "./residual-parts.js";
import { type RunOptions, runWithCache } from "./run.js";

/** Errors of the sums of a decomposition, relative to the largest number of what they should be. */
export interface DecompositionErrors {
  /** Error of the sum of the parts as the residual stream after the last block. */
  stream: number;
  /** Error of the sum of the contributions as the logits. */
  logits: number;
}

/**
 * Residual stream of a decoder after its last block as a sum of parts, and the logits as a sum of what these contribute.
 * It owns its tensors; dispose it.
 */
export class ResidualDecomposition implements Disposable {
  /** Names of the parts, such as `embed`, `pos_embed`, `blocks.0.attn.head.3`, `blocks.0.attn.bias` and `blocks.0.mlp`. */
  readonly names: readonly string[];
  readonly #model: InspectedDecoder;
  readonly #parts: ReadonlyMap<string, FloatTensor>;
  readonly #scale: FloatTensor;

  /** @internal */
  constructor(
    model: InspectedDecoder,
    parts: ReadonlyMap<string, FloatTensor>,
    scale: FloatTensor,
    /** Residual stream after the last block, [B, T, C]. */
    readonly stream: FloatTensor,
    /** Logits of the model, [B, T, V]. */
    readonly logits: FloatTensor,
  ) {
    this.names = [...parts.keys()];
    this.#model = model;
    this.#parts = parts;
    this.#scale = scale;
  }

  /**
   * Returns what a part adds to the residual stream, [B, T, C]. It belongs to the decomposition.
   *
   * @throws ERR_ARGUMENT if there is no such part.
   */
  get(name: string): FloatTensor {
    const part = this.#parts.get(name);
    if (part) return part;
    const known = this.names.slice(0, 3).join(", ");
    throw new HeedError("ERR_ARGUMENT", `ResidualDecomposition: expected a part such as ${known}, got ${name}`);
  }

  /**
   * Returns what a part contributes to the logits, f32 [B, T, V], where the last norm divides by the scale of the whole
   * stream. Dispose it.
   *
   * @throws ERR_ARGUMENT if there is no such part.
   */
  logitsOf(name: string): FloatTensor {
    const { parts } = this.#contributions([name]);
    return parts[0]!;
  }

  /** Returns what the bias of the last norm contributes to the logits, f32 [B, T, V]. Dispose it. */
  biasLogits(): FloatTensor {
    return this.#contributions([]).bias;
  }

  /**
   * Checks that the parts add up to the residual stream, and their contributions to the logits, and resolves to the
   * errors of both sums. For bf16 and f16 the parts are rounded, so that a larger tolerance is needed.
   *
   * @param tolerance largest error, relative to the largest number of the stream and of the logits
   *
   * @throws ERR_RANGE if an error is larger.
   */
  async verify(tolerance = 1e-4): Promise<DecompositionErrors> {
    const op = "ResidualDecomposition";
    checkNumber(op, "tolerance", tolerance, 0);
    const reads = noGrad(() =>
      scope(() => {
        const stream = this.names
          .map((name): FloatTensor => this.get(name).to("f32"))
          .reduce((sum, part) => add(sum, part));
        const logits = this.names.reduce<FloatTensor>(
          (sum, name) => scope(() => add(sum, this.logitsOf(name))),
          this.biasLogits(),
        );
        return { stream: errorOf(stream, this.stream), logits: errorOf(logits, this.logits) };
      }),
    );
    const [stream, logits] = await Promise.all([reads.stream, reads.logits]);
    const worst = Math.max(stream, logits);
    if (!(worst <= tolerance))
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected sums within ${tolerance} of the whole, got an error of ${worst}`,
      );
    return { stream, logits };
  }

  /** Frees the parts, the stream and the logits. */
  dispose(): void {
    for (const tensor of [...this.#parts.values(), this.#scale, this.stream, this.logits]) tensor.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #contributions(names: readonly string[]): { parts: FloatTensor[]; bias: FloatTensor } {
    const [batch, tokens, width] = this.stream.shape as [number, number, number];
    const shape = [batch, tokens, this.#model.config.vocabularySize];
    return noGrad(() =>
      scope(() => {
        const added = names.map((name) => reshape(this.get(name), [1, batch * tokens, width]));
        const { parts, bias } = partLogits(this.#model, this.#scale, added);
        return { parts: parts.map((part) => reshape(part, shape)), bias: reshape(bias, shape) };
      }),
    );
  }
}

/**
 * Takes the residual stream of a decoder after its last block apart into what the embeddings, each head, each
 * attention's bias and each feed-forward add to it, at every position.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * using parts = decomposeResidual(gpt, ids);
 * parts.get("blocks.1.attn.head.0").shape; // [1, 3, 16]
 * await parts.verify(); // { stream: 1e-7, logits: 1e-7 }, or thereabouts
 *
 * @throws the errors of `run`.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export function decomposeResidual(
  model: InspectedDecoder,
  ids: IntTensor,
  options: Omit<RunOptions<InspectedDecoder>, "stopAtLayer"> = {},
): ResidualDecomposition {
  const end = `blocks.${model.config.layers - 1}.hook_resid_post` as const;
  return noGrad(() =>
    scope(() => {
      const names = (name: string): boolean => name === end || partNames.test(name);
      using cache = runWithCache(model, ids, { ...options, names });
      const stream = keep(cache.get(end).alias());
      const found = streamParts(model, (name) => cache.get(name), cache.has("hook_pos_embed"));
      const parts = found.flatMap((part) =>
        part.names.map((name, i) => [name, keep(reshape(narrow(part.added, 0, i, 1), stream.shape))] as const),
      );
      const scale = keep(cache.get("ln_final.hook_scale").alias());
      return new ResidualDecomposition(model, new Map(parts), scale, stream, keep(cache.output.alias()));
    }),
  );
}

/** Resolves to the largest error of a tensor, relative to the largest number of what it should be. */
async function errorOf(actual: FloatTensor, expected: FloatTensor): Promise<number> {
  const wide = expected.to("f32");
  const [error, largest] = [max(abs(sub(actual, wide))).item(), max(abs(wide)).item()];
  return (await error) / ((await largest) || 1);
}
