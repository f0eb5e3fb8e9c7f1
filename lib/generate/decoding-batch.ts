import { largest } from "../largest.js";
import type { KvCache } from "../nn/kv-cache.js";
import { Graph } from "../graph.js";
import { sampleInto, SamplingTensors } from "../ops/sample.js";
import { reshape } from "../ops/views.js";
import { keep } from "../scope.js";
import { empty, tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { allowedTokens, logitBiases } from "./logit-rules.js";
import { clearRow, copyRow } from "./cache-rows.js";
import { type CausalModel, infer } from "./causal-model.js";
import type { TokenSettings } from "./options.js";
import { generated, hasEnded, keptTokens, type Sequence } from "./sequence.js";
import { TokenHistory } from "./token-history.js";

/** State that the choice of the next tokens depends on besides the logits, with one row per sequence. */
interface SamplingState {
  readonly rows: SamplingTensors;
  /** The latest tokens, if there is a repetition penalty. */
  readonly history: TokenHistory | null;
  /** The latest generated tokens, if there is a presence or frequency penalty. */
  readonly generated: TokenHistory | null;
  readonly bias: FloatTensor | null;
  /** Bits of the tokens that may be chosen, if some may not yet. */
  readonly allowed: IntTensor | null;
}

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
  #sampling: SamplingState;
  /** The latest sampled ids, [B]; -1 for a row that had no distribution. */
  #ids: IntTensor;
  /** The next step's input, [B]: the sampled ids, with 0 in place of -1. */
  #inputs: IntTensor;
  /** The position of each row's next draw in the seed's sequence of random numbers, [B]. */
  #offsets: IntTensor;
  #draws = 0;
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
    this.#sampling = this.#createSampling();
    [this.#ids, this.#inputs, this.#offsets] = this.#createIntegers();
  }

  /** True if every sequence has ended. */
  get finished(): boolean {
    return this.#rows.every(hasEnded);
  }

  /** True if a step may be enqueued before the tokens of the last one are read. */
  get canRunAhead(): boolean {
    const live = this.#live();
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
    for (const [row, sequence] of this.#rows.entries()) if (hasEnded(sequence)) clearRow(this.#cache, row);
    if (this.#warm && this.#recordable) this.#advanceRecorded();
    else this.#advance(() => this.#latest());
    this.#warm = true;
  }

  /** Returns the input of a step, [B, 1]. */
  #latest(): IntTensor {
    return reshape(this.#inputs, [this.#rows.length, 1]);
  }

  /** Resolves to the latest sampled tokens, for `accept`. */
  read(): Promise<Int32Array> {
    return this.#ids.data();
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
      sequence.tokens.push(token);
      if (generated(sequence) >= sequence.limit) sequence.finish = "length";
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
    for (const part of Object.values(this.#sampling)) (part as Disposable | null)?.[Symbol.dispose]();
    for (const integers of [this.#ids, this.#inputs, this.#offsets]) integers.dispose();
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
    this.#prepareDraw();
    this.#sample(ids, counts);
    this.#appendTokens();
  }

  #advanceRecorded(): void {
    this.#prepareDraw();
    this.#cache.begin(1);
    if (this.#recorded) this.#cache.advance();
    else this.#recorded = Graph.capture(this.#model.device, () => this.#sample(() => this.#latest()));
    this.#recorded.launch();
    this.#appendTokens();
  }

  #appendTokens(): void {
    this.#sampling.history?.append(this.#ids);
    this.#sampling.generated?.append(this.#ids);
  }

  #sample(ids: () => IntTensor, counts?: number[]): void {
    const cache = this.#cache;
    const { rows, history, generated, bias, allowed } = this.#sampling;
    using logits = infer(
      this.#model,
      () => this.#model.forward(ids(), { cache, lastOnly: true, ...(counts && { counts }) }), // [B, V]
    );
    const outputs = { ids: this.#ids, inputs: this.#inputs };
    const inputs = { history: history?.tokens ?? null, generated: generated?.tokens ?? null, bias, allowed };
    sampleInto(outputs, logits, this.#offsets, rows, inputs);
  }

  /** Sets what differs between draws: the numbers of the draws, and whether a text may end. */
  #prepareDraw(): void {
    this.#offsets.set(this.#rows.map(({ stream }) => stream + this.#draws));
    const { allowed } = this.#sampling;
    if (allowed && this.#draws === this.#settings.minTokens) allowed.set(new Int32Array(allowed.size).fill(-1));
    this.#draws++;
  }

  #compact(live: number[]): void {
    const cache = this.#cache.take(live);
    this.dispose();
    this.#cache = cache;
    this.#rows = live.map((row) => this.#rows[row]!);
    this.#sampling = this.#createSampling();
    [this.#ids, this.#inputs, this.#offsets] = this.#createIntegers();
    this.#inputs.set(this.#rows.map(({ tokens }) => tokens.at(-1)!));
  }

  /**
   * Computes the cache of the kept tokens again at their new positions. The latest token is left out, since it is the
   * input of the next step.
   */
  #slide(full: number[]): void {
    const length = keptTokens(this.#model.config.contextLength) - 1;
    if (length === 0) {
      for (const row of full) clearRow(this.#cache, row);
      return;
    }
    using cache = this.#cache.fresh(full);
    const ids = Int32Array.from(full.flatMap((row) => this.#rows[row]!.tokens.slice(-length - 1, -1)));
    infer(this.#model, () =>
      this.#model.forward(this.#tensor(ids, [full.length, length]), { cache, lastOnly: true }),
    ).dispose();
    for (const [i, row] of full.entries()) copyRow(cache, i, this.#cache, row);
  }

  #createSampling(): SamplingState {
    const { device, config } = this.#model;
    const { contextLength, vocabularySize } = config;
    const { sampling, seed, minTokens, stopTokens, logitBias } = this.#settings;
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
    const each = <T>(value: T): T[] => Array<T>(this.#rows.length).fill(value);
    const kept = <T extends FloatTensor | IntTensor>(x: T | null): T | null => x && keep(x);
    const history = (of: (row: Sequence) => number[]): TokenHistory =>
      new TokenHistory(this.#rows.map(of), contextLength, device);
    return {
      rows: new SamplingTensors(each({ ...sampling, seed }), device),
      history: repetitionPenalty === 1 ? null : history(({ tokens }) => tokens),
      generated:
        presencePenalty === 0 && frequencyPenalty === 0 ? null : history(({ tokens, prompt }) => tokens.slice(prompt)),
      bias: kept(logitBiases(each(logitBias), vocabularySize, device)),
      allowed: this.#draws < minTokens ? kept(allowedTokens(each(stopTokens), vocabularySize, device)) : null,
    };
  }

  /** Creates three tensors of one integer per row. */
  #createIntegers(): [IntTensor, IntTensor, IntTensor] {
    const make = (): IntTensor => keep(empty([this.#rows.length], { dtype: "i32", device: this.#model.device }));
    return [make(), make(), make()];
  }

  #tensor(values: Int32Array, shape: number[]): IntTensor {
    return tensor(values, shape, { device: this.#model.device });
  }
}
