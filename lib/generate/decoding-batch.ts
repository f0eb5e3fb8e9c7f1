import { largest } from "../util/largest.js";
import type { KvCache } from "../nn/kv-cache.js";
import { Graph } from "../core/graph.js";
import { reshape } from "../ops/views.js";
import { tensor } from "../core/creation.js";
import { atOnce } from "../util/turns.js";
import type { IntTensor } from "../core/tensor.js";
import { type CausalModel, infer } from "./causal-model.js";
import { type DrawRow, Draws, drawShape } from "./draws.js";
import type { TokenSettings } from "./options.js";
import { addToken, generated, hasEnded, keptTokens, type Sequence } from "./sequence.js";

/**
 * Sequences that are decoded together, one token each per step, with their state on the device: one cache row each, the
 * latest sampled ids, and what the sampling options need.
 *
 * Sampled ids are the input of the next step without passing through the host. So a step can be enqueued before the
 * tokens of the step before it are read, unless `makeRoom` must run in between. A sequence whose logits have no
 * distribution gets the id -1, which tells the host about it, and continues from token 0 until it leaves the batch.
 *
 * If the model allows it, the second step is recorded, and the following steps run the recording: they differ only in
 * the contents of the tensors, not in the operations.
 */
export class DecodingBatch implements Disposable {
  readonly #model: CausalModel;
  readonly #settings: TokenSettings;
  #rows: Sequence[];
  #cache: KvCache;
  #draws: Draws;
  /** True if the steps of the model can be recorded on its device. */
  readonly #recordable: boolean;
  /** True if a step of one token has run, so that everything that it needs is loaded. */
  #warm = false;
  #recorded: Graph | null = null;

  constructor(model: CausalModel, sequences: readonly Sequence[], settings: TokenSettings) {
    this.#model = model;
    this.#settings = settings;
    this.#rows = [...sequences];
    this.#recordable = model.recordable === true && Graph.supported(model.device);
    // The last token of a sequence is never fed back to the model.
    const longest = largest(sequences.map(({ tokens, limit }) => tokens.length + limit - 1));
    this.#cache = model.createCache(sequences.length, Math.min(longest, model.config.contextLength));
    this.#draws = this.#createDraws();
  }

  /** True if every sequence has ended. */
  get finished(): boolean {
    return this.#rows.every(hasEnded);
  }

  /** True if a step may be enqueued before the tokens of the last one are read. */
  get canRunAhead(): boolean {
    const live = this.#live();
    // What may follow in a text that has a form is known when its last token is read.
    if (this.#rows.some(({ constraint }) => constraint !== null)) return false;
    const last = live.every((row) => generated(this.#rows[row]!) + 1 >= this.#rows[row]!.limit);
    return !last && !this.#sparse(live) && this.#full(live).length === 0;
  }

  /**
   * Runs the first step: the model reads all prompts, which are padded at their ends, and the first tokens are sampled.
   */
  prefill(): void {
    const counts = this.#rows.map(({ tokens }) => tokens.length);
    const length = largest(counts);
    const ids = new Int32Array(counts.length * length);
    for (const [row, { tokens }] of this.#rows.entries()) ids.set(tokens, row * length);
    this.#advance(() => this.#tensor(ids, [counts.length, length]), counts);
  }

  /** Runs the model over the latest tokens and samples the next ones. */
  step(): void {
    // An empty sequence costs almost nothing.
    for (const [row, sequence] of this.#rows.entries()) if (hasEnded(sequence)) this.#cache.lengths[row] = 0;
    if (this.#warm && this.#recordable) this.#advanceRecorded();
    else this.#advance(() => this.#latest());
    this.#warm = true;
  }

  /** Returns the input of a step, [B, 1]. */
  #latest(): IntTensor {
    return reshape(this.#draws.inputs, [this.#rows.length, 1]);
  }

  /** Resolves to the latest sampled tokens, for `accept`. */
  read(): Promise<Int32Array> {
    return this.#draws.ids.data();
  }

  /** Adds a step's tokens to the sequences that have not ended, and returns those that got one. */
  accept(ids: Int32Array): Sequence[] {
    const advanced: Sequence[] = [];
    for (const row of this.#live()) {
      const sequence = this.#rows[row]!;
      const token = ids[row]!;
      if (token < 0) {
        sequence.diverged = true;
        continue;
      }
      if (this.#settings.stopTokens.has(token)) {
        sequence.finish = "stop";
        continue;
      }
      addToken(sequence, token);
      sequence.constraint?.accept(token);
      if (sequence.constraint?.ended) sequence.finish = "stop";
      else if (generated(sequence) >= sequence.limit) sequence.finish = "length";
      else if (sequence.constraint) atOnce(sequence.constraint.findAllowed());
      advanced.push(sequence);
    }
    return advanced;
  }

  /**
   * Prepares a step that could not be run ahead: removes ended sequences if they are many, and shortens the cache of
   * full ones.
   */
  makeRoom(): void {
    if (this.#sparse(this.#live())) this.#compact(this.#live());
    const full = this.#full(this.#live());
    if (full.length > 0) this.#slide(full);
  }

  dispose(): void {
    this.#recorded?.dispose();
    this.#recorded = null;
    this.#cache.dispose();
    this.#draws.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #live(): number[] {
    return [...this.#rows.keys()].filter((row) => !hasEnded(this.#rows[row]!));
  }

  /**
   * Returns true if at least half of the rows have ended. The others are then moved together; by waiting for half, each
   * row is moved only a few times.
   */
  #sparse(live: number[]): boolean {
    return live.length * 2 <= this.#rows.length;
  }

  #full(live: number[]): number[] {
    return live.filter((row) => this.#cache.lengths[row] === this.#cache.length);
  }

  #advance(ids: () => IntTensor, counts?: number[]): void {
    this.#draws.prepare();
    this.#draw(ids, counts);
    this.#draws.append();
  }

  #advanceRecorded(): void {
    this.#draws.prepare();
    this.#cache.begin(1);
    if (this.#recorded) this.#cache.advance();
    else this.#recorded = Graph.capture(this.#model.device, () => this.#draw(() => this.#latest()));
    this.#recorded.launch();
    this.#draws.append();
  }

  #draw(ids: () => IntTensor, counts?: number[]): void {
    const cache = this.#cache;
    using logits = infer(
      this.#model,
      () => this.#model.forward(ids(), { cache, lastOnly: true, ...(counts && { counts }) }), // [B, V]
    );
    this.#draws.draw(logits);
  }

  #compact(live: number[]): void {
    const cache = this.#cache.take(live);
    this.dispose();
    this.#cache = cache;
    this.#rows = live.map((row) => this.#rows[row]!);
    this.#draws = this.#createDraws();
  }

  /**
   * Computes the cache of the kept tokens again at their new positions. The latest token is left out, since it is the
   * input of the next step.
   */
  #slide(full: number[]): void {
    const length = keptTokens(this.#model.config.contextLength) - 1;
    if (length === 0) {
      for (const row of full) this.#cache.lengths[row] = 0;
      return;
    }
    using cache = this.#cache.fresh(full);
    const ids = Int32Array.from(full.flatMap((row) => this.#rows[row]!.tokens.slice(-length - 1, -1)));
    infer(this.#model, () =>
      this.#model.forward(this.#tensor(ids, [full.length, length]), { cache, lastOnly: true }),
    ).dispose();
    for (const [i, row] of full.entries()) this.#cache.replace(row, cache, i);
  }

  #createDraws(): Draws {
    const { device, config } = this.#model;
    const { contextLength, vocabularySize } = config;
    const rows = this.#rows.map((sequence): DrawRow => ({ ...sequence, settings: this.#settings }));
    const draws = new Draws({ device, vocabularySize }, rows.length, drawShape(rows), contextLength);
    draws.set(rows);
    return draws;
  }

  #tensor(values: Int32Array, shape: number[]): IntTensor {
    return tensor(values, shape, { device: this.#model.device });
  }
}
