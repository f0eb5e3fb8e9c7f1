// A worker thread that carries out orders, and its two ends: `WorkerThread` in the thread that gives them, `carryOut` in
// the worker.
import { parentPort, type Transferable, Worker } from "node:worker_threads";
import { type ErrorCode, HeedError } from "./errors.js";

/** An order. Their ids count upwards from 0, so that the worker knows that of one that it cannot read. */
interface Order<T> {
  readonly id: number;
  readonly order: T;
}

type Answer<R> = { id: number; result: R } | { id: number; code: ErrorCode; message: string };

interface Waiting<R> {
  resolve: (result: R) => void;
  reject: (error: unknown) => void;
}

/** A thread that carries out orders. It keeps the process alive only while somebody waits for it. */
export class WorkerThread<T, R> {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting<R>>();
  #failed: Error | null = null;
  #next = 0;

  /** Starts a file, which must call `carryOut`. */
  constructor(file: URL, workerData?: unknown) {
    // A thread does not take the flags of its process, such as those of `node --input-type=module -e`.
    this.#worker = new Worker(file, { workerData, execArgv: [] });
    const fail = (error: Error): void => {
      this.#failed ??= error;
      for (const id of [...this.#waiting.keys()]) this.#take(id)?.reject(error);
    };
    this.#worker.on("message", (answer: Answer<R>) => {
      const waiting = this.#take(answer.id);
      if ("result" in answer) waiting?.resolve(answer.result);
      else waiting?.reject(new HeedError(answer.code, answer.message));
    });
    // Nobody knows whose answer it was.
    this.#worker.on("messageerror", (cause) => {
      fail(
        new HeedError("ERR_INTERNAL", `worker thread: expected answers that can be read: ${messageOf(cause)}`, {
          cause,
        }),
      );
      void this.terminate();
    });
    this.#worker.on("error", fail);
    this.#worker.on("exit", (code) =>
      fail(new HeedError("ERR_INTERNAL", `worker thread: expected it to run, got its exit ${code}`)),
    );
    // A listener makes the thread keep the process alive, so this comes after all of them.
    this.#worker.unref();
  }

  /** Number of orders that have not been carried out. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** True if the thread has ended. It takes no more orders then. */
  get failed(): boolean {
    return this.#failed !== null;
  }

  /**
   * Gives an order and resolves to its result. What is transferred is gone in this thread.
   *
   * @throws ERR_INTERNAL if the order cannot be sent to another thread, since it contains a function or is nested too
   *   deeply. The thread then takes further orders as before.
   */
  run(order: T, transferred: readonly Transferable[] = []): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.#failed) throw this.#failed;
      const id = this.#next;
      try {
        this.#worker.postMessage({ id, order } satisfies Order<T>, transferred);
      } catch (cause) {
        const text = `worker thread: expected an order that can be sent to it: ${messageOf(cause)}`;
        throw new HeedError("ERR_INTERNAL", text, { cause });
      }
      this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.ref();
    });
  }

  /** Ends the thread. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #take(id: number): Waiting<R> | undefined {
    const found = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker.unref();
    return found;
  }
}

/** Carries out the orders that this worker thread gets. `transferred` returns what of a result can be transferred. */
export function carryOut<R>(
  run: (order: never) => R | Promise<R>,
  transferred: (result: R) => readonly Transferable[] = () => [],
): void {
  const refuse = (id: number, error: unknown): void => {
    const code = error instanceof HeedError ? error.code : "ERR_INTERNAL";
    parentPort!.postMessage({ id, code, message: messageOf(error) } satisfies Answer<R>);
  };
  let next = 0;
  const answer = async ({ id, order }: Order<never>): Promise<void> => {
    try {
      const result = await run(order);
      parentPort!.postMessage({ id, result } satisfies Answer<R>, transferred(result));
    } catch (error) {
      refuse(id, error);
    }
  };
  parentPort!.on("message", (order: Order<never>) => {
    next = order.id + 1;
    void answer(order);
  });
  // Orders arrive in the order in which they were given, so it is the next one that cannot be read.
  parentPort!.on("messageerror", (error) => refuse(next++, error));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
