import type { Device } from "../core/device.js";
import type { PassOptions } from "../models/pass.js";
import type { SourceOptions } from "../models/sequence-to-sequence.js";
import type { KvCache } from "../nn/kv-cache.js";
import { lastTokens } from "../nn/last-tokens.js";
import { type Hook, Observer } from "../nn/observer.js";
import { checkObject } from "../util/check.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkNames, hookNames, type InspectedDecoder, type InspectedPair } from "./hook-names.js";
import type { HooksOf } from "./run.js";

/** Parts of a `CausalModel` that a `HookedDecoder` uses. */
interface Decoding {
  readonly config: { readonly contextLength: number; readonly vocabularySize: number };
  readonly device: Device;
  readonly training: boolean;
  train(): unknown;
  eval(): unknown;
  forward(ids: IntTensor, options?: PassOptions): FloatTensor;
  createCache(batch: number, length?: number): KvCache;
  dispose(): void;
}

/**
 * Decoder whose passes run with hooks. It is a `CausalModel`, so that `generate`, `generateTokens`, `beamSearch` and
 * `score` take it in place of the model. No pass of it is recorded.
 *
 * @example
 * const direction = randn([16], { seed: 1 });
 * const steered: HookedDecoder = withHooks(gpt, { "blocks.1.hook_resid_pre": addTo(direction) });
 * const { text } = await generate(steered, tokenizer, "The whale", { maxTokens: 5 });
 */
export class HookedDecoder implements Disposable {
  /** False: a recorded pass would run the hooks only once. */
  readonly recordable = false;
  readonly #model: Decoding;
  readonly #observer: Observer;
  /** True if the hooked decoder owns `#model` and disposes it. */
  readonly #owns: boolean;
  /** True if a hook listens to the last norm. */
  readonly #seesEnd: boolean;

  /** @internal */
  constructor(model: Decoding, observer: Observer, { owns, last }: { owns: boolean; last: string }) {
    this.#model = model;
    this.#observer = observer;
    this.#owns = owns;
    this.#seesEnd = observer.at(last) !== null;
  }

  /** Numbers that generation needs: the context length and the size of the vocabulary. */
  get config(): { readonly contextLength: number; readonly vocabularySize: number } {
    return this.#model.config;
  }

  /** Device that holds the model. */
  get device(): Device {
    return this.#model.device;
  }

  /** True if the model's dropout is on. */
  get training(): boolean {
    return this.#model.training;
  }

  /** Turns the model's dropout on. */
  train(): this {
    this.#model.train();
    return this;
  }

  /** Turns the model's dropout off. */
  eval(): this {
    this.#model.eval();
    return this;
  }

  /**
   * Returns the logits of the next token after each of ids i32 [B, T]: [B, T, V], or [B, V] with `lastOnly`. Hooks see
   * [B, T, …] in either case.
   */
  forward(ids: IntTensor, options: PassOptions = {}): FloatTensor {
    const observer = this.#observer;
    const { lastOnly = false, counts } = options;
    if (!lastOnly || !this.#seesEnd) return this.#model.forward(ids, { ...options, observer });
    // The model would give the last norm only the last tokens, [B, C].
    return scope(() => lastTokens(this.#model.forward(ids, { ...options, lastOnly: false, observer }), counts));
  }

  /** Returns an empty cache for `batch` sequences of up to `length` tokens. */
  createCache(batch: number, length?: number): KvCache {
    return length === undefined ? this.#model.createCache(batch) : this.#model.createCache(batch, length);
  }

  /** Frees the encoded sources if `HookedPair.decoderFor` made this decoder. The model itself stays. */
  dispose(): void {
    if (this.#owns) this.#model.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Encoder–decoder whose passes run with hooks. `translate` takes it in place of the model.
 *
 * @example
 * const model = new T5({ vocabularySize: 100, layers: 1, heads: 2, width: 16 });
 * const hooked: HookedPair<T5> = withHooks(model, { "encoder.0.hook_mlp_out": replaceWith(0) });
 * const [[best]] = await translate(hooked, [[5, 6, 7]], { maxTokens: 3 });
 */
export class HookedPair<M extends InspectedPair> {
  readonly #model: M;
  readonly #observer: Observer;

  /** @internal */
  constructor(model: M, observer: Observer) {
    this.#model = model;
    this.#observer = observer;
  }

  /** Configuration of the model. */
  get config(): M["config"] {
    return this.#model.config;
  }

  /** Device that holds the model. */
  get device(): Device {
    return this.#model.device;
  }

  /** Number of tokens in the source's vocabulary. */
  get sourceVocabularySize(): number {
    return this.#model.sourceVocabularySize;
  }

  /** Returns a decoder of the targets of sources i32 [B, S]. Dispose it. */
  decoderFor(source: IntTensor, options: SourceOptions = {}): HookedDecoder {
    const observer = this.#observer;
    const decoder = this.#model.decoderFor(source, { ...options, observer });
    return new HookedDecoder(decoder, observer, { owns: true, last: "decoder_final_ln" });
  }
}

/**
 * Returns a model that runs every pass with hooks, for generation: pass it to `generate`, `generateTokens`,
 * `beamSearch`, `score` or, if it is an encoder–decoder, to `translate`. The model itself does not change.
 *
 * The first pass of a text has its whole prompt and each later one a single token, because keys and values of earlier
 * tokens are cached; so does a hook's value [B, T, …]. Prompts of unequal lengths are padded at their ends. A hook that
 * treats each position alike, such as `addTo(vector)`, gives what a pass over the whole text would give.
 *
 * @example
 * const hooks = { "blocks.0.attn.hook_z": replaceWith(0, { heads: [1] }) };
 * const [{ tokens }] = await generateTokens(withHooks(gpt, hooks), [[72, 101]], { maxTokens: 5, temperature: 0 });
 *
 * @throws ERR_ARGUMENT if the model has no value of a hook's name, or a hook is not a function.
 */
export function withHooks(model: InspectedDecoder, hooks: HooksOf<InspectedDecoder>): HookedDecoder;
/** Returns an encoder–decoder that runs every pass with hooks. */
export function withHooks<M extends InspectedPair>(model: M, hooks: HooksOf<M>): HookedPair<M>;
export function withHooks(
  model: InspectedDecoder | InspectedPair,
  hooks: Readonly<Record<string, Hook | undefined>>,
): HookedDecoder | HookedPair<InspectedPair> {
  const op = "withHooks";
  checkObject(op, "hooks", hooks);
  checkNames(op, Object.keys(hooks), hookNames(model));
  const observer = new Observer(hooks as Readonly<Record<string, Hook>>);
  if ("decoderFor" in model) return new HookedPair(model, observer);
  return new HookedDecoder(model, observer, { owns: false, last: "ln_final" });
}
