/** The process of a server, which runs http-server.js, as that of its clients sees it. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, truncateSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { checkLog } from "./http-disk.js";
import type { Begun, Measured, Order, Report } from "./http-settings.js";

type Done = Begun | Measured | null;
type Told = { failure: string } | { done: Done } | { report: Report };

export class ServerProcess {
  readonly exit: Promise<[code: number | null, signal: string | null]>;
  /** Number of the last model that the server has said to have saved. */
  saved = 0;
  /** Number of times that work on the disk has failed. */
  failedWrites = 0;
  readonly #child: ChildProcess;
  readonly #log: string;
  #answered: (done: Done) => void = () => undefined;

  /** Starts a server that keeps its files in a folder. `fail` hears of what goes wrong in it. */
  constructor(
    seed: number,
    readonly folder: string,
    fail: (failure: string) => void,
  ) {
    mkdirSync(folder, { recursive: true });
    this.#log = path.join(folder, "log");
    const log = openSync(this.#log, "a");
    this.#child = fork(fileURLToPath(new URL("http-server.js", import.meta.url)), [String(seed), folder], {
      stdio: ["inherit", log, "inherit", "ipc"],
    });
    closeSync(log);
    this.exit = once(this.#child, "exit") as ServerProcess["exit"];
    this.#child.on("message", (told: Told) => {
      if ("failure" in told) fail(told.failure);
      else if ("done" in told) this.#answered(told.done);
      else if ("saved" in told.report) this.saved = told.report.saved;
      else this.failedWrites++;
    });
  }

  /** Resolves when the server serves. */
  begun(): Promise<Begun> {
    return this.#answer();
  }

  /** Tells the server what to do, and resolves when it has done that. */
  async tell(order: { fault: string } | "work" | "calm"): Promise<void> {
    await this.#answer(order);
  }

  /**
   * Rejects if the log has a key or a line that is not whole. Removes what is in it. The last line need not be whole if the
   * process has ended; otherwise this waits for the rest.
   */
  async readLog(): Promise<void> {
    let text = readFileSync(this.#log, "utf8");
    for (let tries = 0; tries < 60 && this.#child.exitCode === null && this.#child.signalCode === null; tries++) {
      if (text === "" || text.endsWith("\n")) break;
      // What the disk had no room for is written a second later.
      await sleep(100);
      text = readFileSync(this.#log, "utf8");
    }
    truncateSync(this.#log);
    checkLog(text);
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
