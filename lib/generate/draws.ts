import { empty, zeros } from "../core/creation.js";
import type { Device } from "../core/device.js";
import { ops } from "../core/native.js";
import { topk } from "../ops/choose.js";
import { logProbabilitiesInto, type RowSampling, sampleInto, SamplingTensors } from "../ops/sample.js";
import { narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { TokenLogprobs } from "./generation.js";
import type { NextTokens } from "../structured/constraint.js";
import { AllowedTokens } from "./allowed-tokens.js";
import { logitBiases } from "./logit-rules.js";
import type { TokenSettings } from "./options.js";
import { TokenHistory } from "./token-history.js";

/** Sequence whose next token is drawn. */
export interface DrawRow {
  /** The prompt and the tokens that were generated after it. */
  readonly tokens: readonly number[];
  /** Number of tokens that are the prompt's. */
  readonly prompt: number;
  /** Index of its first random number in the seed's sequence. */
  readonly stream: number;
  readonly settings: DrawSettings;
  /** Form that the text has to have, which knows the generated tokens; null if it has none. */
  readonly constraint: NextTokens | null;
}

/** Options that determine how the tokens of a sequence are drawn. */
export interface DrawSettings extends Pick<TokenSettings, "sampling" | "minTokens" | "stopTokens" | "logitBias"> {
  /** Number of most likely tokens whose log-probabilities are read too; null if none are read. @default null */
  readonly logprobs?: number | null;
}

/** Options that draws have room for, because at least one of their rows needs them. */
export interface DrawShape {
  readonly penalisesHistory: boolean;
  readonly penalisesGenerated: boolean;
  readonly bias: boolean;
  readonly minTokens: boolean;
  /** True if a row's text has to have a form. The tokens that are allowed then differ from draw to draw. */
  readonly constrained: boolean;
  /** Number of most likely tokens whose log-probabilities are read; null if none are read. */
  readonly logprobs: number | null;
}

/** Returns what draws for these rows must have room for. */
export function drawShape(rows: readonly DrawRow[]): DrawShape {
  const tops = rows.map(({ settings }) => settings.logprobs ?? null).filter((top) => top !== null);
  return {
    penalisesHistory: rows.some(penalisesHistory),
    penalisesGenerated: rows.some(penalisesGenerated),
    bias: rows.some(({ settings }) => settings.logitBias.length > 0),
    minTokens: rows.some((row) => generatedBy(row) < row.settings.minTokens),
    constrained: rows.some(({ constraint }) => constraint !== null),
    logprobs: tops.length > 0 ? Math.max(...tops) : null,
  };
}

/** Drawn tokens of all rows. */
export interface Drawn {
  /** Token of each row; -1 for a row that has no distribution. */
  readonly ids: Int32Array;
  /** Returns the log-probabilities of a row's token; null if the row did not ask for them. */
  logprobs(row: number): TokenLogprobs | null;
}

/** Sampling of rows that belong to no sequence. */
const idle: Required<RowSampling> = {
  ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
  ...{ temperature: 0, topK: 0, topP: 1, minP: 0, typicalP: 1, seed: 0 },
};

/**
 * Draws the next tokens of several sequences, with everything on the device that the choice depends on besides the
 * logits. The operations of a draw are the same every time, so they can be recorded.
 */
export class Draws implements Disposable {
  /** R, the number of rows. There may be fewer sequences; the other rows get tokens that nobody reads. */
  readonly rows: number;
  /** Drawn tokens, i32 [R]; -1 for a row that has no distribution. */
  readonly ids: IntTensor;
  /** Input of the next step, i32 [R]: the drawn tokens, with 0 in place of -1. */
  readonly inputs: IntTensor;
  readonly #vocabulary: number;
  readonly #offsets: IntTensor;
  readonly #sampling: SamplingTensors;
  readonly #history: TokenHistory | null;
  readonly #generated: TokenHistory | null;
  readonly #bias: FloatTensor | null;
  readonly #allowed: AllowedTokens | null;
  /** The drawn and the most likely tokens, and their log-probabilities, [R, 1 + n]. */
  readonly #likely: { readonly tokens: IntTensor; readonly logprobs: FloatTensor } | null;
  #sequences: readonly DrawRow[] = [];
  /** Number of tokens that each sequence had generated when it was set. */
  #before: number[] = [];
  /** Number of draws since then. */
  #draws = 0;

  /** Creates draws with room for `rows` sequences, of whose tokens the latest `window` count for penalties. */
  constructor(
    { device, vocabularySize }: { device: Device; vocabularySize: number },
    rows: number,
    shape: DrawShape,
    window: number,
  ) {
    const ints = (...sizes: number[]): IntTensor => keep(zeros(sizes, { dtype: "i32", device }));
    this.rows = rows;
    this.#vocabulary = vocabularySize;
    [this.ids, this.inputs, this.#offsets] = [ints(rows), ints(rows), ints(rows)];
    this.#sampling = new SamplingTensors(rows, device);
    const history = (): TokenHistory => new TokenHistory(rows, window, device);
    this.#history = shape.penalisesHistory ? history() : null;
    this.#generated = shape.penalisesGenerated ? history() : null;
    this.#bias = shape.bias ? keep(empty([rows, vocabularySize], { device })) : null;
    this.#allowed = shape.minTokens || shape.constrained ? new AllowedTokens(rows, vocabularySize, device) : null;
    const columns = shape.logprobs === null ? 0 : 1 + Math.min(shape.logprobs, vocabularySize);
    this.#likely =
      columns === 0 ? null : { tokens: ints(rows, columns), logprobs: keep(empty([rows, columns], { device })) };
  }

  /** Takes these sequences. The next step's input becomes the last token of each. */
  set(sequences: readonly DrawRow[]): void {
    this.#sequences = sequences;
    this.#before = sequences.map(generatedBy);
    this.#draws = 0;
    const spare = <T>(value: T): T[] => Array<T>(this.rows - sequences.length).fill(value);
    const all = <T>(of: (row: DrawRow) => T, idle: T): T[] => [...sequences.map(of), ...spare(idle)];
    const none: readonly number[] = [];
    this.inputs.set(all(({ tokens }) => tokens.at(-1)!, 0));
    this.#sampling.set(all(({ settings }) => settings.sampling, idle));
    this.#history?.set(all((row) => (penalisesHistory(row) ? row.tokens : none), none));
    this.#generated?.set(all((row) => (penalisesGenerated(row) ? row.tokens.slice(row.prompt) : none), none));
    this.#bias?.set(
      logitBiases(
        all(({ settings }) => settings.logitBias, []),
        this.#vocabulary,
      ),
    );
  }

  /** Sets what differs between draws. Call it before each `draw`, or before a recording of it is launched. */
  prepare(): void {
    // This happens for each token, so nothing is made for a single row.
    const offsets = new Int32Array(this.rows);
    this.#sequences.forEach(({ stream, settings, constraint }, i) => {
      const generated = this.#before[i]! + this.#draws;
      offsets[i] = stream + generated;
      this.#allowed?.note(i, constraint, settings.stopTokens, generated >= settings.minTokens);
    });
    this.#offsets.set(offsets);
    this.#allowed?.upload(this.#sequences.length);
    this.#draws++;
  }

  /** Enqueues a draw from the logits [R, V]. */
  draw(logits: FloatTensor): void {
    const inputs = {
      history: this.#history?.tokens ?? null,
      generated: this.#generated?.tokens ?? null,
      bias: this.#bias,
      allowed: this.#allowed?.bits ?? null,
    };
    sampleInto({ ids: this.ids, inputs: this.inputs }, logits, this.#offsets, this.#sampling, inputs);
    if (this.#likely) scope(() => this.#readLikely(logits));
  }

  /** Adds the drawn tokens to the sequences, as penalties see them. Call it after each draw or launch. */
  append(): void {
    this.#history?.append(this.ids);
    this.#generated?.append(this.ids);
  }

  /** Resolves to the latest drawn tokens. */
  async read(): Promise<Drawn> {
    const sequences = this.#sequences;
    const ids = this.ids.data();
    if (!this.#likely) return { ids: await ids, logprobs: () => null };
    const { tokens, logprobs } = this.#likely;
    const columns = tokens.shape[1]!;
    const [drawn, likely, values] = await Promise.all([ids, tokens.data(), logprobs.data()]);
    const at = (row: number, column: number): { token: number; logprob: number } => ({
      token: likely[row * columns + column]!,
      logprob: values[row * columns + column]!,
    });
    return {
      ids: drawn,
      logprobs: (row) => {
        const { logprobs: count = null } = sequences[row]!.settings;
        if (count === null) return null;
        const top = Array.from({ length: Math.min(count, columns - 1) }, (_, i) => at(row, 1 + i));
        return { ...at(row, 0), top };
      },
    };
  }

  dispose(): void {
    for (const part of [this.ids, this.inputs, this.#offsets, this.#sampling, this.#history, this.#generated])
      part?.dispose();
    for (const part of [this.#bias, this.#allowed?.bits, this.#likely?.tokens, this.#likely?.logprobs]) part?.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #readLikely(logits: FloatTensor): void {
    const { tokens, logprobs } = this.#likely!;
    const top = tokens.shape[1]! - 1;
    ops.copy({ out: narrow(tokens, 1, 0, 1), inp: reshape(this.ids, [this.rows, 1]) });
    if (top > 0) ops.copy({ out: narrow(tokens, 1, 1, top), inp: topk(logits, top).ids });
    logProbabilitiesInto(logprobs, logits, tokens);
  }
}

function generatedBy({ tokens, prompt }: DrawRow): number {
  return tokens.length - prompt;
}

function penalisesHistory({ settings: { sampling } }: DrawRow): boolean {
  return sampling.repetitionPenalty !== 1;
}

function penalisesGenerated({ settings: { sampling } }: DrawRow): boolean {
  return sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
}
