import { onBrokenPipe } from "./output.js";

/** The exit code of a program that the user stopped: 128 + SIGINT. */
export const interrupted = 130;

/**
 * Turns the first Ctrl-C (or SIGTERM, or a closed output pipe) into an abort. A second Ctrl-C or SIGTERM quits at once.
 */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #restore: () => void;
  readonly #onSignal = (): void => {
    if (this.signal.aborted) process.exit(interrupted);
    this.#controller.abort();
    this.onAbort();
  };

  /** Begins to listen for signals. `onAbort` is called at the first one. */
  constructor(private readonly onAbort: () => void) {
    process.on("SIGINT", this.#onSignal).on("SIGTERM", this.#onSignal);
    this.#restore = onBrokenPipe(() => this.#controller.abort());
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onSignal).off("SIGTERM", this.#onSignal);
    this.#restore();
  }
}
