// The part of a training run's loop that only a distributed run has: gradients are summed while the backward pass goes on,
// and everything that the loop decides is decided by all processes together.
import { createHash } from "node:crypto";
import { GradientBuckets } from "../distributed/gradient-buckets.js";
import type { DistributedOptions } from "../distributed/options.js";
import { Ranks } from "../distributed/ranks.js";
import { ShardExchange } from "../distributed/shard-exchange.js";
import { HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";
import type { Optimizer, SavedState } from "../optim/optimizer.js";
import type { FloatTensor } from "../core/tensor.js";
import { type AgreedOptions, checkAgreement } from "./run-agreement.js";

/** State of a run on which the decisions of all processes depend. */
export interface Consensus {
  /** True if the signal of a process has been aborted. */
  aborted: boolean;
  /** Seconds that the run has taken, by the clock of the first process. */
  seconds: number;
}

/** Number that asks for no state. */
const nothing = -1;

/** The processes that train a model together; one process alone has nothing to exchange. */
export class DataParallel {
  readonly ranks: Ranks;
  readonly #options: Required<DistributedOptions> | null;
  readonly #buckets: GradientBuckets | null;
  readonly #exchange: ShardExchange | null;
  /** True if the processes have the same parameters. */
  #equal = false;

  constructor(options: Required<DistributedOptions> | null, optimizer: Optimizer) {
    this.#options = options;
    this.ranks = new Ranks(options?.collectives ?? null);
    this.#buckets = options && options.collectives.size > 1 ? new GradientBuckets(options.collectives, options) : null;
    this.#exchange = options && optimizer.shard ? new ShardExchange(options.collectives, optimizer) : null;
  }

  /** Lets the other processes treat this one as dead if its JavaScript thread hangs, until the result is called. */
  watch(): () => void {
    return this.#options?.collectives.watch() ?? ((): void => undefined);
  }

  /** Ends the run of all processes because of an error that concerns this one alone. */
  failIfUnknown(error: unknown): void {
    if (this.#options && this.ranks.size > 1 && !this.ranks.knows(error)) this.#options.collectives.fail(error);
  }

  /**
   * Checks that all processes have the same options, before anything is computed. `describe` resolves to those of this
   * process.
   *
   * @throws ERR_DISTRIBUTED if they differ; the message says which and where.
   */
  async agree(describe: () => Promise<AgreedOptions>): Promise<void> {
    const { collectives } = this.#options ?? {};
    if (this.#equal || !collectives || this.ranks.size === 1) return;
    const own = await this.ranks.everywhere(describe);
    await this.ranks.everywhere(() => checkAgreement(collectives, own));
  }

  /**
   * Checks that all processes return to the same checkpoint; `step` is null in one that has none.
   *
   * @throws ERR_DISTRIBUTED if they differ.
   */
  async agreeOnStep(step: number | null): Promise<void> {
    const { collectives } = this.#options ?? {};
    if (!collectives || this.ranks.size === 1) return;
    const own = { "checkpoint to return to": step === null ? "none" : `step ${step}` };
    await this.ranks.everywhere(() => checkAgreement(collectives, own));
  }

  /** Gives all processes the parameters of the first, before the first step. */
  async equalise(model: Module, step: number): Promise<void> {
    const { collectives } = this.#options ?? {};
    if (this.#equal || !collectives || this.ranks.size === 1) return;
    const parameters = [...model.namedParameters()];
    const shapes = parameters.map(
      ([name, { shape, isFrozen }]) => `${name} [${shape.join(", ")}]${isFrozen ? " frozen" : ""}`,
    );
    shapes.push(`step ${step}`);
    const { kind } = parameters[0]![1].device;
    const own = { kind, hash: createHash("sha256").update(shapes.join("\n")).digest("hex") };
    await this.ranks.everywhere(async () => {
      const all = (await collectives.gatherJson(own)) as (typeof own)[];
      const [first] = all as [typeof own];
      const other = all.findIndex(({ kind }) => kind !== first.kind);
      if (other >= 0)
        throw new HeedError(
          "ERR_DEVICE",
          `distributed: expected the models of all processes on the same kind of device, got ${first.kind} at rank 0 and ${all[other]!.kind} at rank ${other}`,
        );
      const differs = all.findIndex(({ hash }) => hash !== first.hash);
      if (differs >= 0)
        throw new HeedError(
          "ERR_DISTRIBUTED",
          `expected the same model in all processes, but that of rank ${differs} has other parameters or another step`,
        );
    });
    for (const [, parameter] of parameters) {
      // Parameters that were frozen and quantised are of other types, and the same in all processes anyway.
      if (parameter.dtype !== "f32" && parameter.dtype !== "bf16") continue;
      collectives.broadcast(parameter).wait();
    }
    this.#equal = true;
  }

  /** Runs the last backward pass of a step, whose gradients are then summed. */
  backward(model: Module, body: () => void): void {
    if (this.#buckets) this.#buckets.backward(model.parameters({ trainable: true }), body);
    else body();
  }

  /** Makes the sums of all processes the gradients. Returns the parameters that had none in this process. */
  finish(model: Module): readonly FloatTensor[] {
    return this.#buckets?.finish(model.parameters({ trainable: true })) ?? [];
  }

  /** Removes the gradients of parameters that had none in any process, so that the optimiser leaves them out. */
  async dropMissing(model: Module, missing: readonly FloatTensor[]): Promise<void> {
    const own = new Set(missing);
    const parameters = model.parameters({ trainable: true });
    const all = await this.ranks.share(parameters.map((parameter) => (own.has(parameter) ? 1 : 0)));
    for (const [i, parameter] of parameters.entries()) if (all.every((flags) => flags[i] === 1)) parameter.zeroGrad();
  }

  /** Enqueues what follows the optimiser's step: the parameters that other processes have updated. */
  afterStep(): void {
    this.#exchange?.gatherParameters();
  }

  /**
   * Returns the states of the optimiser for a checkpoint, in the first process. If they are divided, each is fetched from
   * the others when it is written: they run `serveStates` meanwhile.
   */
  savedStates(optimizer: Optimizer): readonly SavedState[] {
    const exchange = this.#exchange;
    if (!exchange) return optimizer.savedStates();
    return optimizer
      .savedStates((entry, kind) => exchange.collect(entry, kind))
      .map((state, i) => ({
        ...state,
        tensor: async () => {
          await this.#options!.collectives.gather(Float64Array.of(i));
          return state.tensor();
        },
      }));
  }

  /** Runs `body`, which saves a checkpoint, in the first process, and then lets the others go on. */
  async saving<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } finally {
      if (this.#exchange) await this.#options!.collectives.gather(Float64Array.of(nothing));
    }
  }

  /** Takes part in fetching the states that the first process writes, until it has written all. */
  async serveStates(optimizer: Optimizer): Promise<void> {
    const exchange = this.#exchange;
    if (!exchange) return;
    const states = optimizer.savedStates((entry, kind) => exchange.collect(entry, kind));
    for (;;) {
      const [wanted] = await this.#options!.collectives.gather(Float64Array.of(nothing));
      if (wanted![0] === nothing) return;
      (await states[wanted![0]!]!.tensor()).dispose();
    }
  }

  /** Resolves to what all processes decide by. */
  async consult({ aborted, seconds }: Consensus): Promise<Consensus> {
    const all = await this.ranks.share([aborted ? 1 : 0, seconds]);
    return { aborted: all.some(([flag]) => flag === 1), seconds: all[0]![1]! };
  }
}
