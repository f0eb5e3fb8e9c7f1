import { largest } from "../util/largest.js";
import { zeros } from "../core/creation.js";
import type { RowRun } from "../adapters/layer-rows.js";
import { infer } from "../generate/causal-model.js";
import { type DrawRow, type Drawn, Draws, type DrawShape, drawShape } from "../generate/draws.js";
import { Graph } from "../core/graph.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { type KvPages, PagedPass } from "../nn/kv-pages.js";
import { narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { idlePage } from "./page-table.js";
import type { Request } from "./request.js";
import type { RequestAdapters } from "./request-adapters.js";
import type { Work } from "./scheduler.js";
import { drawRows } from "./step.js";

/** Rows, tokens, pages and options that steps have room for. */
export interface StepShape extends DrawShape {
  readonly rows: number;
  /** T, the number of tokens of each row. */
  readonly tokens: number;
  /** P, the number of pages that a sequence may have. */
  readonly columns: number;
  /** Runs of rows with the same adapter; null if the model alone computes them. */
  readonly runs: readonly RowRun[] | null;
}

/** Returns the number of rows that steps of `count` requests have. */
export function rowsFor(count: number): number {
  return count <= 8 ? count : 8 * Math.ceil(count / 8);
}

/**
 * Returns the shape of steps of `tokens` tokens for each of these requests, of whose tokens a page holds `pageSize`. Those
 * with the same adapter must stand side by side.
 */
export function stepShape(
  requests: readonly Request[],
  pageSize: number,
  contextLength: number,
  adapters: RequestAdapters | null,
  tokens = 1,
): StepShape {
  const rows = rowsFor(requests.length);
  // Requests get further pages, so their number is rounded up.
  const longest = largest(requests.map(({ prompt, limit }) => Math.min(prompt + limit - 1, contextLength)));
  const columns = 2 ** Math.ceil(Math.log2(Math.ceil((longest + tokens - 1) / pageSize)));
  const runs = adapters?.runsOf(requests.map((request) => [request, tokens])) ?? null;
  // Rows without a request belong to the last run, so that there is no run of them alone.
  const last = runs?.at(-1);
  if (runs && last) runs[runs.length - 1] = { ...last, count: last.count + (rows - requests.length) * tokens };
  return { rows, tokens, columns, runs, ...drawShape(requests) };
}

/**
 * Steps of T tokens for each of a number of rows. Whatever differs between steps lies in tensors, so the steps are
 * recorded once, and run again for any requests that fit: rows without a request compute tokens that nobody reads.
 *
 * In steps of one token, the drawn ids are the input of the next step without passing through the host. In steps of
 * several tokens, which verify drafts, the host knows all of the input.
 */
export class DecodeSteps implements Disposable {
  readonly #shape: StepShape;
  readonly #model: CausalDecoder;
  readonly #memory: KvPages;
  /** The starts and the numbers of keys of all rows, i32 [2, rows], so that one upload sets both. */
  readonly #places: IntTensor;
  readonly #starts: IntTensor;
  readonly #keyLengths: IntTensor;
  readonly #pages: IntTensor;
  /** Position of each token, i32 [rows · T]; null in steps of one token, which are at the starts. */
  readonly #positions: IntTensor | null;
  readonly #draws: Draws;
  readonly #adapters: RequestAdapters | null;
  #requests: readonly Request[] = [];
  #pageCount = 0;
  #warm = false;
  #recorded: Graph | null = null;
  /** Logits of the latest pass, if tokens are drawn from them when it is known which are allowed. */
  #logits: FloatTensor | null = null;

  constructor(model: CausalDecoder, memory: KvPages, shape: StepShape, adapters: RequestAdapters | null) {
    this.#model = model;
    this.#adapters = adapters;
    this.#memory = memory;
    this.#shape = shape;
    const { rows, tokens, columns } = shape;
    const { device, config } = model;
    const { contextLength, vocabularySize } = config;
    const ints = (...sizes: number[]): IntTensor => keep(zeros(sizes, { dtype: "i32", device }));
    [this.#places, this.#pages] = [ints(2, rows), ints(rows, columns)];
    const part = (i: number): IntTensor => scope(() => keep(reshape(narrow(this.#places, 0, i, 1), [rows])));
    [this.#starts, this.#keyLengths] = [part(0), part(1)];
    this.#positions = tokens > 1 ? ints(rows * tokens) : null;
    this.#draws = new Draws({ device, vocabularySize }, rows * tokens, shape, contextLength);
  }

  /**
   * Takes these requests, of which each has one token whose keys and values are not computed, in the order of the shape.
   * `rows` are the sequences that the tokens of a step belong to.
   */
  begin(requests: readonly Request[], rows: readonly DrawRow[] = requests): void {
    this.#requests = requests;
    this.#pageCount = 0;
    this.#draws.set(rows);
  }

  /**
   * Enqueues a step, and returns a function that resolves to the drawn tokens. Every request must have a page for its
   * next token. If texts have to have a form, the tokens are drawn when the function is called, which must be after the
   * tokens of the step before it have been accepted; meanwhile the device runs the model.
   */
  run(): () => Promise<Drawn> {
    this.#setPlaces();
    if (this.#shape.constrained) {
      this.#launch(() => this.#pass());
      return () => {
        this.#draws.prepare();
        this.#draws.draw(this.#logits!);
        return this.#read();
      };
    }
    this.#launchWhole();
    const drawn = this.#read();
    return () => drawn;
  }

  /**
   * Enqueues a step that computes the last token and the drafts of each request, at most T tokens, and resolves to the
   * tokens that were drawn after each of them. Every request must have pages for T tokens. A row with fewer tokens
   * computes its last one several times, at places that are written again before they are read.
   */
  async verify(work: readonly Work[]): Promise<Drawn> {
    const { tokens } = this.#shape;
    const own = work.map(drawRows);
    this.begin(
      work.map(({ request }) => request),
      own.flatMap((rows) => Array.from({ length: tokens }, (_, i) => rows[Math.min(i, rows.length - 1)]!)),
    );
    this.#setPlaces();
    this.#launchWhole();
    const drawn = await this.#draws.read();
    const places = own.flatMap((rows, row) => rows.map((_, i) => row * tokens + i));
    return {
      ids: Int32Array.from(places, (place) => drawn.ids[place]!),
      logprobs: (row) => drawn.logprobs(places[row]!),
    };
  }

  dispose(): void {
    this.#recorded?.dispose();
    this.#forget();
    for (const one of [this.#starts, this.#keyLengths, this.#places, this.#pages, this.#positions]) one?.dispose();
    this.#draws.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Uploads where the tokens of the next step are. */
  #setPlaces(): void {
    const { rows, tokens } = this.#shape;
    const places = new Int32Array(2 * rows).fill(tokens, rows);
    for (const [row, { computed }] of this.#requests.entries()) {
      places[row] = computed;
      places[rows + row]! += computed;
    }
    this.#places.set(places);
    this.#positions?.set(
      Int32Array.from({ length: rows * tokens }, (_, i) => places[Math.floor(i / tokens)]! + (i % tokens)),
    );
    this.#setPages();
  }

  /** Uploads the requests' pages if one has got a further page. */
  #setPages(): void {
    const count = this.#requests.reduce((sum, { pages }) => sum + pages.length, 0);
    if (count === this.#pageCount) return;
    this.#pageCount = count;
    const { rows, columns } = this.#shape;
    const table = new Int32Array(rows * columns).fill(idlePage);
    // A request may have further pages, which were meant for drafts. Steps of this shape do not reach them.
    for (const [row, { pages }] of this.#requests.entries()) table.set(pages.slice(0, columns), row * columns);
    this.#pages.set(table);
  }

  /** Enqueues a step with its draws. */
  #launchWhole(): void {
    this.#draws.prepare();
    this.#launch(() => {
      this.#pass();
      this.#draws.draw(this.#logits!);
      this.#forget();
    });
  }

  /** Enqueues the operations of a step, which are recorded the second time. */
  #launch(step: () => void): void {
    if (!this.#warm || !Graph.supported(this.#model.device)) step();
    else {
      this.#recorded ??= Graph.capture(this.#model.device, step);
      this.#recorded.launch();
    }
    this.#warm = true;
  }

  #read(): Promise<Drawn> {
    this.#draws.append();
    const drawn = this.#draws.read();
    // Nobody reads the tokens of a step in flight if another step fails, so its rejection counts as handled.
    drawn.catch(() => undefined);
    return drawn;
  }

  #forget(): void {
    this.#logits?.dispose();
    this.#logits = null;
  }

  /** Enqueues the model's pass over the tokens of a step. */
  #pass(): void {
    this.#forget();
    const model = this.#model;
    const { rows, tokens } = this.#shape;
    const count = rows * tokens;
    this.#logits = infer(model, () => {
      const group = { tokens, starts: this.#starts, keyLengths: this.#keyLengths, pages: this.#pages };
      const row = (x: IntTensor): IntTensor => reshape(x, [1, count]);
      const cache = new PagedPass(this.#memory, [group], row(this.#positions ?? this.#starts));
      const pass = (): FloatTensor => model.forward(row(this.#draws.inputs), { cache });
      const { runs } = this.#shape;
      const logits = runs ? this.#adapters!.run(runs, runs, pass) : pass();
      return reshape(logits, [count, model.config.vocabularySize]);
    });
  }
}
