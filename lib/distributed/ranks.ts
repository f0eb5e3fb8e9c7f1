import { type ErrorCode, HeedError } from "../util/errors.js";
import type { Collectives } from "./collectives.js";

/** Failure as the processes tell each other of it. */
interface Told {
  code: ErrorCode | null;
  message: string;
}

/** Result of an attempt, or the reason why there is none. */
type Outcome<T> = { value: T } | { error: unknown };

/**
 * The processes of a training run, which decide together: whatever one of them does, the others do too. A run in one
 * process has one rank, and nothing is exchanged.
 */
export class Ranks {
  readonly rank: number;
  readonly size: number;
  readonly #collectives: Collectives | null;
  /** Errors that all processes know of. */
  readonly #known = new WeakSet<object>();

  constructor(collectives: Collectives | null) {
    this.#collectives = collectives;
    this.rank = collectives?.rank ?? 0;
    this.size = collectives?.size ?? 1;
  }

  /** True in the process that writes files. */
  get first(): boolean {
    return this.rank === 0;
  }

  /**
   * Resolves to the numbers of all processes, in the order of their ranks. If one of them has failed, all reject: that one
   * with its error, and the others with the message of the lowest rank that failed.
   */
  async share(numbers: readonly number[], failure: { error: unknown } | null = null): Promise<readonly number[][]> {
    const collectives = this.#collectives;
    if (!collectives) {
      if (failure) throw failure.error;
      return [[...numbers]];
    }
    const all = await collectives.gather(Float64Array.of(failure ? 1 : 0, ...numbers));
    if (all.some(([failed]) => failed !== 0)) await this.#tell(collectives, failure);
    return all.map(([, ...values]) => values);
  }

  /** Returns true if all processes have thrown this error or know of it. */
  knows(error: unknown): boolean {
    return error instanceof Error && this.#known.has(error);
  }

  /** Notes that all processes throw this error, because it follows from what they share. */
  know<E extends Error>(error: E): E {
    this.#known.add(error);
    return error;
  }

  /** Runs `body` in every process, and resolves to its result if it has succeeded in all of them. */
  async everywhere<T>(body: () => Promise<T> | T): Promise<T> {
    if (!this.#collectives) return body();
    const outcome = await attempt(body);
    await this.share([], "error" in outcome ? outcome : null);
    return (outcome as { value: T }).value;
  }

  /**
   * Runs `body` in the first process, and `others` in all others, which may take part in what it does. Resolves to the
   * result of the first, which is passed as JSON.
   */
  async onFirst<T>(body: () => Promise<T>, others: () => Promise<void> = () => Promise.resolve()): Promise<T> {
    const collectives = this.#collectives;
    if (!collectives) return body();
    const outcome = await attempt<T | null>(async () => (this.first ? body() : others().then(() => null)));
    await this.share([], "error" in outcome ? outcome : null);
    const { value } = outcome as { value: T | null };
    const [shared] = await collectives.gatherJson(value);
    return this.first ? value! : (shared as T);
  }

  async #tell(collectives: Collectives, failure: { error: unknown } | null): Promise<never> {
    const error = failure?.error;
    const own: Told | null = failure && {
      code: error instanceof HeedError ? error.code : null,
      message: error instanceof Error ? error.message : String(error),
    };
    const all = (await collectives.gatherJson(own)) as (Told | null)[];
    if (failure) {
      if (error instanceof Error) this.#known.add(error);
      throw error;
    }
    const rank = all.findIndex((told) => told !== null);
    const { code, message } = all[rank]!;
    const shared = new HeedError(code ?? "ERR_DISTRIBUTED", `rank ${rank}: ${message}`);
    this.#known.add(shared);
    throw shared;
  }
}

async function attempt<T>(body: () => Promise<T> | T): Promise<Outcome<T>> {
  try {
    return { value: await body() };
  } catch (error) {
    return { error };
  }
}
