// The model of a plugin: one that the caller has loaded, or the name of one, which is loaded when it is first used.
import { describe, HeedError } from "../util/errors.js";
import { load, type LoadOptions, type ModelKinds } from "../load/load.js";
import { Loaded } from "../load/loaded.js";
import { untilAborted } from "../util/until-aborted.js";
import { checkNames } from "./option-names.js";

/** Kinds of models that plugins use. */
export type PluginKind = "causal" | "encoder" | "classifier";

/** Options for loading a model by its name; see `load`. */
export type ModelLoadOptions = Omit<LoadOptions, "kind">;

const loadNames = [
  ...(["device", "dtype", "seed", "quantize", "tokenizer", "adapter", "average", "revision", "offline"] as const),
  ...(["cacheDir", "hubUrl", "accessToken", "files", "onProgress", "signal"] as const),
] as const satisfies readonly (keyof ModelLoadOptions)[];

const classes: Readonly<Record<PluginKind, string>> = {
  causal: "LanguageModel",
  encoder: "EmbeddingModel",
  classifier: "ClassifierModel",
};

/** A model that is loaded when it is first used. */
export class LazyModel<K extends PluginKind> {
  /** Name of the model; of one that was given loaded, the name of its class, such as "Llama". */
  readonly id: string;
  #loading: Promise<ModelKinds[K]> | null = null;

  /** @throws ERR_ARGUMENT if `source` is neither a name nor a loaded model of this kind, or there is no such option. */
  constructor(
    op: string,
    readonly kind: K,
    readonly source: string | ModelKinds[K],
    readonly options: ModelLoadOptions = {},
  ) {
    checkNames(op, "options", options, loadNames);
    const named = typeof source === "string" && source !== "";
    if (!named && !(source instanceof Loaded && source.kind === kind))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected the name of a model or a loaded ${classes[kind]}, got ${kindOf(source)}`,
      );
    this.id = typeof source === "string" ? source : source.model.constructor.name;
  }

  /**
   * Resolves to the model. Its first caller starts to load it, and further ones wait for the same model. A signal ends
   * the waiting of its caller only. If the model cannot be loaded, the next call tries again.
   *
   * @throws The errors of `load`, and the signal's reason if it is aborted.
   */
  get(signal?: AbortSignal): Promise<ModelKinds[K]> {
    if (typeof this.source !== "string") return Promise.resolve(this.source);
    return untilAborted((this.#loading ??= this.#load(this.source)), signal);
  }

  /** Frees the model if it was loaded here. The next call of `get` loads it again. */
  async close(): Promise<void> {
    const loading = this.#loading;
    this.#loading = null;
    (await loading?.catch(() => null))?.dispose();
  }

  #load(name: string): Promise<ModelKinds[K]> {
    const loading = load(name, { ...this.options, kind: this.kind });
    loading.catch(() => {
      if (this.#loading === loading) this.#loading = null;
    });
    return loading;
  }
}

function kindOf(source: unknown): string {
  return source instanceof Loaded ? `a model of kind "${(source as { kind?: string }).kind}"` : describe(source);
}
