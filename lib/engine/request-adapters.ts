import { AdapterBank, type BankedAdapter, isCurrent } from "../adapters/adapter-bank.js";
import type { RowRun } from "../adapters/layer-rows.js";
import { HeedError } from "../util/errors.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { Request } from "./request.js";
import type { WeightsWatch } from "./weights-watch.js";

/** Adapters of the requests of an engine. */
export class RequestAdapters {
  readonly #bank: AdapterBank;
  readonly #watch: WeightsWatch;
  /** The model's active adapter; undefined if it is not known yet. */
  #active: BankedAdapter | null | undefined;

  constructor(model: CausalDecoder, watch: WeightsWatch) {
    this.#bank = new AdapterBank(model);
    this.#watch = watch;
  }

  /** Gives a request its adapter, or ends it with an error. */
  assign(request: Request): void {
    try {
      // The active adapter may have been replaced by another one, which the engine has not noticed yet.
      if (this.#active === undefined || (this.#active && !isCurrent(this.#active)))
        this.#active = this.#find(undefined);
      const { adapter } = request.settings;
      request.adapter = adapter === undefined ? this.#active : this.#find(adapter);
    } catch (error) {
      request.finish({ error });
    }
  }

  /** Ends the requests whose adapters have been removed from the model. */
  prune(requests: () => readonly Request[]): void {
    const gone = this.#bank.prune();
    if (gone.length === 0) return;
    for (const { parameters } of gone) this.#watch.remove(parameters);
    for (const request of requests())
      if (gone.some(({ id }) => id === request.adapter?.id))
        request.finish({
          error: new HeedError(
            "ERR_DISPOSED",
            `generate: expected an adapter that stays in the model, got ${request.adapter!.name}, which was removed`,
          ),
        });
  }

  /**
   * Returns the runs of rows with the same adapter, of which each request has a number; null if the model alone computes
   * them all.
   */
  runsOf(rows: readonly (readonly [request: Request, count: number])[]): RowRun[] | null {
    // An active adapter would take part in all rows.
    if (!this.#active && rows.every(([{ adapter }]) => adapter === null)) return null;
    const runs: { adapter: number | null; count: number }[] = [];
    for (const [{ adapter }, count] of rows) {
      const id = adapter?.id ?? null;
      const before = runs.at(-1);
      if (before?.adapter === id) before.count += count;
      else runs.push({ adapter: id, count });
    }
    return runs;
  }

  /** Runs a pass over rows with these adapters. */
  run<T>(runs: readonly RowRun[], last: readonly RowRun[], body: () => T): T {
    return this.#bank.run({ runs, last }, body);
  }

  /** Forgets all adapters and frees their memory. Each request must be given its adapter again. */
  clear(): void {
    this.#bank.clear();
    this.#active = undefined;
  }

  #find(name: string | null | undefined): BankedAdapter | null {
    const adapter = this.#bank.find(name);
    if (adapter) this.#watch.add(adapter.parameters);
    return adapter;
  }
}
