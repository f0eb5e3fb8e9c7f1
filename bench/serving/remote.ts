import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { llamaEnvironment } from "../peers/llama-environment.js";
import type { ContestantName, Requests } from "./child.js";

/** A process of its own for a contestant, so that nothing but its own work holds its event loop and its memory. */
export class Remote {
  readonly #child: ChildProcess;

  constructor(contestant: ContestantName) {
    this.#child = fork(fileURLToPath(new URL("child.js", import.meta.url)), {
      stdio: ["ignore", 2, 2, "ipc"], // the standard output belongs to this process
      env: { ...process.env, ...(contestant === "llama.cpp" ? llamaEnvironment : {}) },
    });
  }

  /** Resolves to the answer of a request. One request may be made at a time. */
  async ask<K extends keyof Requests>(action: K, argument: Requests[K][0]): Promise<Requests[K][1]> {
    const left = new AbortController();
    const { signal } = left;
    const ended = once(this.#child, "exit", { signal }).then(([code, cause]) => {
      throw new Error(`the process ended with ${cause ?? code} before it answered`);
    });
    ended.catch(() => undefined);
    try {
      const answered = once(this.#child, "message", { signal });
      answered.catch(() => undefined);
      this.#child.send({ action, argument });
      const [answer] = (await Promise.race([answered, ended])) as [{ result: Requests[K][1] } | { error: string }];
      if ("error" in answer) throw new Error(answer.error);
      return answer.result;
    } finally {
      left.abort();
    }
  }

  /** Ends the process. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill();
    await ended;
  }
}
