import { checkChoice } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";
import { AdamW, type AdamWOptions } from "../optim/adamw.js";
import { Lion, type LionOptions } from "../optim/lion.js";
import { Muon, type MuonOptions } from "../optim/muon.js";
import { Optimizer } from "../optim/optimizer.js";
import type { Shard } from "../optim/shards.js";
import { SGD, type SGDOptions } from "../optim/sgd.js";

/** Names of heed's optimisers in the options of trainers and of `heed train`. */
export const optimizerTypes = ["adamw", "sgd", "lion", "muon"] as const;

type WithoutTrainers<O> = Omit<O, "lr" | "maxNorm" | "shard">;

/**
 * Optimiser of a training run: one of heed's by its type, with its options, or a function that makes one. The learning
 * rate and `maxNorm` are options of the trainer.
 */
export type OptimizerChoice =
  | ({ /** AdamW, which is the default. */ type?: "adamw" } & WithoutTrainers<AdamWOptions>)
  | ({ /** SGD with momentum. */ type: "sgd" } & WithoutTrainers<SGDOptions>)
  | ({ /** Lion. */ type: "lion" } & WithoutTrainers<LionOptions>)
  | ({ /** Muon, with AdamW for all but matrices. */ type: "muon" } & WithoutTrainers<MuonOptions>)
  | ((model: Module, given: GivenOptions) => Optimizer);

/** Options that a trainer gives to its optimiser; a function that makes one passes them on. */
export interface GivenOptions {
  /** Learning rate. */
  lr: number;
  /** Largest global norm of the gradients. */
  maxNorm?: number;
  /** This process, if the state is divided between several. */
  shard?: Shard;
}

/** Learning rates of the types that suit most runs, if the trainer is given none. */
export const usualRates = { adamw: 1e-3, sgd: 0.1, lion: 1e-4, muon: 0.02 } as const;

/** Returns the learning rate for a choice if none is given. */
export function usualRate(choice: OptimizerChoice | undefined): number {
  return usualRates[typeof choice === "function" ? "adamw" : (choice?.type ?? "adamw")] ?? usualRates.adamw;
}

/**
 * Makes the optimiser that the options choose.
 *
 * @throws ERR_ARGUMENT if the type is unknown, or the function does not return an optimiser; what the optimiser throws.
 */
export function makeOptimizer(op: string, model: Module, choice: OptimizerChoice = {}, given: GivenOptions): Optimizer {
  if (typeof choice === "function") {
    const made: unknown = choice(model, given);
    if (made instanceof Optimizer) {
      if (given.shard && given.shard.size > 1 && !made.shard)
        throw new HeedError(
          "ERR_ARGUMENT",
          `${op}: expected optimizer to return an optimiser with the given shard, because distributed.zero is true`,
        );
      return made;
    }
    throw new HeedError("ERR_ARGUMENT", `${op}: expected optimizer to return an optimiser, got ${describe(made)}`);
  }
  if (typeof choice !== "object" || choice === null)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected optimizer to be options or a function, got ${describe(choice)}`,
    );
  const { type = "adamw", ...options } = choice;
  checkChoice(op, "optimizer.type", type, optimizerTypes);
  const all = { ...options, ...given };
  if (type === "sgd") return new SGD(model, all);
  if (type === "lion") return new Lion(model, all);
  if (type === "muon") return new Muon(model, all);
  return new AdamW(model, all);
}
