/** The process of a server, which runs http-server.js, as that of its clients sees it. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Begun, Measured, Order } from "./http-settings.js";

type Done = Begun | Measured | null;
type Told = { failure: string } | { done: Done };

export class ServerProcess {
  readonly exit: Promise<[code: number | null, signal: string | null]>;
  readonly #child: ChildProcess;
  #answered: (done: Done) => void = () => undefined;

  /** Starts a server. `fail` hears of what goes wrong in it. */
  constructor(seed: number, fail: (failure: string) => void) {
    this.#child = fork(fileURLToPath(new URL("http-server.js", import.meta.url)), [String(seed)]);
    this.exit = once(this.#child, "exit") as ServerProcess["exit"];
    this.#child.on("message", (told: Told) => {
      if ("failure" in told) fail(told.failure);
      else this.#answered(told.done);
    });
  }

  /** Resolves when the server serves. */
  begun(): Promise<Begun> {
    return this.#answer();
  }

  /** Tells the server what to do, and resolves when it has done that. */
  async tell(order: { fault: string } | "calm"): Promise<void> {
    await this.#answer(order);
  }

  measure(): Promise<Measured> {
    return this.#answer("measure");
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #answer<T extends Done>(order: Order | null = null): Promise<T> {
    const done = new Promise<T>((resolve, reject) => {
      this.#answered = resolve as (done: Done) => void;
      void this.exit.then(([code, signal]) => reject(new Error(`the server has ended: ${signal ?? code}`)));
    });
    if (order !== null) this.#child.send(order);
    return done;
  }
}
