// The adapters of a model that the requests of an engine use at the same time.
import type { Model } from "../models/model.js";
import type { Linear } from "../nn/linear.js";
import type { FloatTensor } from "../core/tensor.js";
import { activeAdapter, checkName, lorasOf } from "./adapters.js";
import { LayerAdapters } from "./layer-adapters.js";
import { LayerRows, type RowsOfPass } from "./layer-rows.js";
import type { Lora } from "./lora.js";

/** An adapter of a bank. */
export interface BankedAdapter {
  readonly name: string;
  /** Number that no other adapter of the bank has had, nor the same adapter with other weights. It is at least 1. */
  readonly id: number;
  readonly parameters: readonly FloatTensor[];
  /** One of its layers, and what the layer has of it. */
  readonly sample: { readonly layer: Linear; readonly lora: Lora };
}

/** Returns true if an adapter has been removed from the model. */
const isGone = ({ parameters }: BankedAdapter): boolean => parameters[0]!.disposed;

/** Returns true if the model has an adapter still, and under its name. */
export const isCurrent = ({ name, sample: { layer, lora } }: BankedAdapter): boolean =>
  layer.adapter instanceof LayerAdapters && layer.adapter.loras.get(name) === lora;

/** Adapters in the form in which passes use them. An adapter is prepared when it is first asked for. */
export class AdapterBank implements Disposable {
  readonly #model: Model;
  readonly #entries = new Map<string, BankedAdapter>();
  readonly #rows = new Map<Linear, LayerRows>();
  /** Adapters whose names others have taken. The requests that use them go on until they are removed. */
  #replaced: BankedAdapter[] = [];
  #ids = 0;

  constructor(model: Model) {
    this.#model = model;
  }

  /**
   * Returns an adapter: the one of this name, none for null, or the model's active one for undefined.
   *
   * @throws ERR_ARGUMENT if the model has no adapter of this name.
   */
  find(name: string | null | undefined): BankedAdapter | null {
    const wanted = name === undefined ? activeAdapter(this.#model) : name;
    if (wanted === null) return null;
    const known = this.#entries.get(wanted);
    if (known && isCurrent(known)) return known;
    const added = this.#add(wanted);
    if (known) this.#replaced.push(known);
    return added;
  }

  /** Forgets the adapters that have been removed from the model, and returns them. */
  prune(): readonly BankedAdapter[] {
    const gone = [...this.#entries.values()].filter(isGone);
    for (const { name } of gone) this.#entries.delete(name);
    gone.push(...this.#replaced.filter(isGone));
    this.#replaced = this.#replaced.filter((one) => !isGone(one));
    for (const { id } of gone) this.#forget(id);
    return gone;
  }

  /** Runs a pass in which rows have different adapters. */
  run<T>(pass: RowsOfPass, body: () => T): T {
    // Other engines of the model have banks of their own.
    this.#eachLayer((adapters, rows) => {
      adapters.rows = rows;
      rows.pass = pass;
    });
    try {
      return body();
    } finally {
      this.#eachLayer((adapters, rows) => {
        adapters.rows = null;
        rows.pass = null;
      });
    }
  }

  /** Forgets all adapters. */
  clear(): void {
    for (const rows of this.#rows.values()) rows.dispose();
    this.#rows.clear();
    this.#entries.clear();
    this.#replaced = [];
  }

  dispose(): void {
    this.clear();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #add(name: string): BankedAdapter {
    checkName("generate", this.#model, name);
    const layers = [...lorasOf(this.#model, name).values()];
    const parameters = layers.flatMap(({ lora }) => lora.parameters());
    const entry = { name, id: ++this.#ids, parameters, sample: layers[0]! };
    try {
      for (const { layer, lora } of layers) {
        const rows = this.#rows.get(layer) ?? new LayerRows(layer);
        this.#rows.set(layer, rows);
        rows.add(entry.id, lora, this.#model.dtype);
      }
    } catch (error) {
      this.#forget(entry.id);
      throw error;
    }
    this.#entries.set(name, entry);
    return entry;
  }

  #forget(id: number): void {
    for (const rows of this.#rows.values()) rows.remove(id);
  }

  #eachLayer(body: (adapters: LayerAdapters, rows: LayerRows) => void): void {
    for (const [{ adapter }, rows] of this.#rows) if (adapter instanceof LayerAdapters) body(adapter, rows);
  }
}
