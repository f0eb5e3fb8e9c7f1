import { empty, zeros } from "../creation.js";
import { infer } from "../generate/causal-model.js";
import { Graph } from "../graph.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { type KvPages, PagedPass } from "../nn/kv-pages.js";
import { sampleInto, SamplingTensors } from "../ops/sample.js";
import { reshape } from "../ops/views.js";
import { keep } from "../scope.js";
import type { IntTensor } from "../tensor.js";
import { type Request, samplingOf } from "./request.js";

/** Sampling that a row without a request has. */
const idle = {
  ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
  ...{ temperature: 0, topK: 0, topP: 1, minP: 0, typicalP: 1, seed: 0 },
};

/**
 * Steps of one token for a number of rows, with their state on the device: the drawn ids are the input of the next step
 * without passing through the host, and whatever differs between steps lies in tensors. So the steps are recorded once,
 * and run again for any requests that fit: rows without a request compute a token that nobody reads.
 */
export class DecodeSteps implements Disposable {
  readonly rows: number;
  /** P, the number of pages that a sequence may have. */
  readonly columns: number;
  readonly #model: CausalDecoder;
  readonly #memory: KvPages;
  /** Page that rows without a request write to. */
  readonly #idlePage: number;
  readonly #starts: IntTensor;
  readonly #keyLengths: IntTensor;
  readonly #pages: IntTensor;
  readonly #offsets: IntTensor;
  readonly #sampling: SamplingTensors;
  /** The latest drawn ids, [R]; -1 for a row that has no distribution. */
  readonly #ids: IntTensor;
  /** The next step's input, [R]: the drawn ids, with 0 in place of -1. */
  readonly #inputs: IntTensor;
  #requests: readonly Request[] = [];
  /** Index of each request's first random number since `begin`. */
  #firsts: number[] = [];
  /** Number of steps since `begin`. */
  #steps = 0;
  #pageCount = 0;
  #warm = false;
  #recorded: Graph | null = null;

  constructor(model: CausalDecoder, memory: KvPages, { rows, columns }: { rows: number; columns: number }) {
    this.#model = model;
    this.#memory = memory;
    this.#idlePage = memory.pages - 1;
    this.rows = rows;
    this.columns = columns;
    const { device } = model;
    const ints = (...shape: number[]): IntTensor => keep(zeros(shape, { dtype: "i32", device }));
    [this.#starts, this.#keyLengths, this.#offsets] = [ints(rows), ints(rows), ints(rows)];
    this.#pages = ints(rows, columns);
    this.#ids = keep(empty([rows], { dtype: "i32", device }));
    this.#inputs = ints(rows);
    this.#sampling = new SamplingTensors(Array(rows).fill(idle), device);
  }

  /** Returns true if the steps can serve a request: its options need nothing from the host but the position. */
  static serves({ settings }: Request): boolean {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = settings.sampling;
    const penalised = repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    return !penalised && settings.logitBias.length === 0 && settings.minTokens === 0;
  }

  /** Takes these requests, of which each has one token whose keys and values are not computed. */
  begin(requests: readonly Request[]): void {
    this.#requests = requests;
    this.#firsts = requests.map(({ stream, generated }) => stream + generated);
    this.#steps = 0;
    this.#pageCount = 0;
    const spare = Array<number>(this.rows - requests.length).fill(0);
    this.#inputs.set([...requests.map(({ tokens }) => tokens.at(-1)!), ...spare]);
    this.#sampling.set([...requests.map(samplingOf), ...spare.map(() => idle)]);
  }

  /** Enqueues a step, and resolves to the drawn tokens. Every request must have a page for its next token. */
  run(): Promise<Int32Array> {
    const spare = Array<number>(this.rows - this.#requests.length).fill(0);
    const starts = [...this.#requests.map(({ computed }) => computed), ...spare];
    this.#starts.set(starts);
    this.#keyLengths.set(starts.map((start) => start + 1));
    this.#offsets.set([...this.#firsts.map((first) => first + this.#steps), ...spare]);
    this.#steps++;
    this.#setPages();
    if (!this.#warm || !Graph.supported(this.#model.device)) this.#step();
    else {
      this.#recorded ??= Graph.capture(this.#model.device, () => this.#step());
      this.#recorded.launch();
    }
    this.#warm = true;
    const drawn = this.#ids.data();
    // Nobody reads the tokens of a step in flight if another step fails, so its rejection counts as handled.
    drawn.catch(() => undefined);
    return drawn;
  }

  dispose(): void {
    this.#recorded?.dispose();
    this.#sampling.dispose();
    for (const one of [this.#starts, this.#keyLengths, this.#pages, this.#offsets, this.#ids, this.#inputs])
      one.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Uploads the requests' pages if one has got a further page. */
  #setPages(): void {
    const count = this.#requests.reduce((sum, { pages }) => sum + pages.length, 0);
    if (count === this.#pageCount) return;
    this.#pageCount = count;
    const table = new Int32Array(this.rows * this.columns).fill(this.#idlePage);
    for (const [row, { pages }] of this.#requests.entries()) table.set(pages, row * this.columns);
    this.#pages.set(table);
  }

  #step(): void {
    const model = this.#model;
    using logits = infer(model, () => {
      const group = { tokens: 1, starts: this.#starts, keyLengths: this.#keyLengths, pages: this.#pages };
      const row = (x: IntTensor): IntTensor => reshape(x, [1, this.rows]);
      const cache = new PagedPass(this.#memory, [group], row(this.#starts));
      return reshape(model.forward(row(this.#inputs), { cache }), [this.rows, model.config.vocabularySize]);
    });
    sampleInto({ ids: this.#ids, inputs: this.#inputs }, logits, this.#offsets, this.#sampling, {});
  }
}
