import { noGrad } from "../../core/autograd.js";
import { checkBoolean, checkChoice, checkInteger, checkObject } from "../../util/check.js";
import { HeedError } from "../../util/errors.js";
import { ops } from "../../core/native.js";
import { initializerOf, type ModelOptions } from "../../models/model.js";
import { Module } from "../../nn/module.js";
import type { Hook } from "../../nn/observer.js";
import { greater, mul, sub } from "../../ops/binary.js";
import { checkFloat } from "../../ops/check.js";
import { l2Normalize } from "../../ops/l2-normalize.js";
import { linear } from "../../ops/linear.js";
import { relu } from "../../ops/unary.js";
import { reshape, transpose } from "../../ops/views.js";
import { scope } from "../../core/scope.js";
import { formatShape } from "../../core/shape.js";
import type { FloatTensor } from "../../core/tensor.js";
import { topKRelu } from "./activations.js";

const architectures = ["standard", "topk", "jumprelu"] as const;

/**
 * Kind of sparse autoencoder, as SAELens names it: "standard" has ReLU and is trained with an L1 penalty, "topk" keeps the
 * k largest features of a token, "jumprelu" keeps those above a threshold of their own.
 */
export type SaeArchitecture = (typeof architectures)[number];

/** Configuration of a `SparseAutoencoder`. */
export interface SparseAutoencoderConfig {
  /** C, the number of elements that a token has in the value that is taken apart. */
  width: number;
  /** F, the number of features. */
  features: number;
  /** Kind of the autoencoder. @default "standard" */
  architecture?: SaeArchitecture;
  /** Number of features that "topk" keeps. @default 32, or F if that is less */
  k?: number;
  /** True if the decoder's bias is subtracted from the input. @default true */
  subtractsBias?: boolean;
  /** Name of the value that it takes apart, which files tell. @default null */
  hookName?: string | null;
  /** Name of the model, which files tell. @default null */
  modelName?: string | null;
}

/**
 * Sparse autoencoder: it takes activations apart into many features, few of which are active at a token. Parameters have
 * the names of SAELens' files.
 *
 * features = act((x − b_dec)·W_enc + b_enc), reconstruction = features·W_dec + b_dec
 *
 * @example
 * const sae = new SparseAutoencoder({ width: 8, features: 32, architecture: "topk", k: 4 }, { seed: 1 });
 * const features = sae.encode(x); // [2, 32]
 * sae.decode(features).shape; // [2, 8]
 *
 * @see Bricken et al. 2023, "Towards Monosemanticity"; Cunningham et al. 2023, arXiv:2309.08600; Gao et al. 2024,
 *   arXiv:2406.04093; Rajamanoharan et al. 2024, arXiv:2407.14435.
 */
export class SparseAutoencoder extends Module {
  /** Encoder, f32 [C, F]. */
  readonly W_enc: FloatTensor;
  /** Bias of the encoder, f32 [F]. */
  readonly b_enc: FloatTensor;
  /** Decoder, f32 [F, C]: the direction of each feature, of length 1 in a new and in a trained autoencoder. */
  readonly W_dec: FloatTensor;
  /** Bias of the decoder, f32 [C]. */
  readonly b_dec: FloatTensor;
  /** Thresholds of "jumprelu", f32 [F]; null otherwise. */
  readonly threshold: FloatTensor | null;
  /** Complete configuration, with every default filled in. */
  readonly config: Required<SparseAutoencoderConfig>;

  /** @throws ERR_RANGE or ERR_ARGUMENT if the configuration is invalid. */
  constructor(config: SparseAutoencoderConfig, options: Omit<ModelOptions, "dtype"> = {}) {
    super();
    this.config = checkConfig(config);
    const { width, features, architecture } = this.config;
    const init = initializerOf(options);
    this.W_dec = init.normal([features, width], 1);
    this.W_enc = init.constant([width, features], 0);
    this.b_enc = init.constant([features], 0);
    this.b_dec = init.constant([width], 0);
    this.threshold = architecture === "jumprelu" ? init.constant([features], 0.001) : null;
    this.normalizeDecoder();
    noGrad(() => scope(() => ops.copy({ out: this.W_enc, inp: transpose(this.W_dec) })));
  }

  /** Returns the features before the activation, [..., F], of x f32 [..., C]. */
  preactivations(x: FloatTensor): FloatTensor {
    const { W_enc, b_enc, b_dec, config } = this;
    return scope(() => linear(config.subtractsBias ? sub(x, b_dec) : x, W_enc, { bias: b_enc, layout: "io" }));
  }

  /** Returns the features f32 [..., F] of activations x f32 [..., C]. */
  encode(x: FloatTensor): FloatTensor {
    const { architecture, k } = this.config;
    return scope(() => {
      const pre = this.preactivations(x);
      if (architecture === "topk") return topKRelu(pre, k);
      return this.threshold ? mul(relu(pre), greater(pre, this.threshold)) : relu(pre);
    });
  }

  /** Returns the activations f32 [..., C] that features f32 [..., F] stand for. */
  decode(features: FloatTensor): FloatTensor {
    return linear(features, this.W_dec, { bias: this.b_dec, layout: "io" });
  }

  /** Returns the reconstruction f32 [..., C] of activations x f32 [..., C]. */
  forward(x: FloatTensor): FloatTensor {
    return scope(() => this.decode(this.encode(x)));
  }

  /**
   * Returns a hook that replaces a value by its reconstruction. `edit` may change the features on the way, [B, T, F].
   *
   * @example
   * const sae = new SparseAutoencoder({ width: 16, features: 64 }, { seed: 1 });
   * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
   * const hooks = { "blocks.1.hook_resid_pre": sae.splice() };
   * noGrad(() => run(gpt, ids, { hooks })).shape; // [1, 3, 256]
   *
   * @throws ERR_SHAPE, when the hook runs, if a token of the value has other than C elements.
   */
  splice(edit: (features: FloatTensor) => FloatTensor = (features) => features): Hook {
    return (value, name) => {
      const [batch, tokens, ...rest] = value.shape as [number, number, ...number[]];
      const { width } = this.config;
      if (rest.length === 0 || rest.reduce((product, size) => product * size, 1) !== width)
        throw new HeedError(
          "ERR_SHAPE",
          `SparseAutoencoder: expected ${name} with ${width} elements for each token, got ${formatShape(value.shape)}`,
        );
      return scope(() => {
        const x = reshape(value, [batch, tokens, width]).to("f32");
        return reshape(this.decode(edit(this.encode(x))), value.shape).to(value.dtype);
      });
    };
  }

  /** @internal Brings every row of the decoder to length 1. */
  normalizeDecoder(): void {
    noGrad(() => scope(() => overwrite(this.W_dec, l2Normalize(this.W_dec))));
  }

  /** @internal Checks that x has C elements in its last dimension. */
  checkInput(op: string, x: FloatTensor): void {
    checkFloat(op, "x", x);
    if (x.shape.at(-1) === this.config.width) return;
    throw new HeedError("ERR_SHAPE", `${op}: expected activations [..., ${this.config.width}], got ${x}`);
  }
}

/** @internal Overwrites a parameter in place. */
export function overwrite(parameter: FloatTensor, value: FloatTensor): void {
  ops.copy({ out: parameter, inp: value });
  parameter.overwritten();
}

function checkConfig(config: SparseAutoencoderConfig): Required<SparseAutoencoderConfig> {
  const op = "SparseAutoencoder";
  checkObject(op, "config", config);
  const { width, features, architecture = "standard", subtractsBias = true } = config;
  const { hookName = null, modelName = null } = config;
  checkInteger(op, "width", width, 1);
  checkInteger(op, "features", features, 1);
  checkChoice(op, "architecture", architecture, architectures);
  checkBoolean(op, "subtractsBias", subtractsBias);
  const { k = Math.min(32, features) } = config;
  checkInteger(op, "k", k, 1, features);
  return { width, features, architecture, k, subtractsBias, hookName, modelName };
}
