import { checkUsable, useAdapter } from "../adapters/adapter-uses.js";
import type { CausalDecoder } from "../models/causal-decoder.js";

/**
 * Keeps the adapter of a text in the model, from the call that asks for the text until its requests have joined the
 * others: the prompt is encoded in between, and `unloadAdapter` would take away what the call has accepted. A text that
 * nobody begins to read at once keeps nothing.
 */
export class AdapterLease {
  readonly #model: CausalDecoder;
  readonly #name: string;
  readonly #unread: NodeJS.Immediate;
  #release: (() => void) | null;
  #requests: number;

  /** Takes an adapter of the model for a number of requests. */
  constructor(model: CausalDecoder, name: string, requests: number) {
    this.#model = model;
    this.#name = name;
    this.#requests = requests;
    this.#release = useAdapter(model, name);
    this.#unread = setImmediate(() => this.end());
  }

  /**
   * Notes that the text is being read.
   *
   * @throws ERR_ARGUMENT if the adapter has been unloaded, and there is no other one of its name.
   */
  begin(): void {
    clearImmediate(this.#unread);
    if (this.#release) return;
    checkUsable("generate", this.#model, this.#name);
    this.#release = useAdapter(this.#model, this.#name);
  }

  /** Notes that one of the requests has joined, which keeps the adapter itself. */
  joined(): void {
    if (--this.#requests === 0) this.end();
  }

  /** Lets the adapter go. */
  end(): void {
    this.#release?.();
    this.#release = null;
  }
}
