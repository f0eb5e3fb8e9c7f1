// The options of a distributed run that must be the same in all processes. With others, the processes would wait for each
// other forever, or train models that differ, and no error would say so.
import { createHash } from "node:crypto";
import type { Collectives } from "../distributed/collectives.js";
import { HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";
import { dataDigest } from "../data/data-digest.js";
import type { Plan } from "./plan.js";

/** Options of one process as texts, by their names. */
export type AgreedOptions = Readonly<Record<string, string>>;

/** Number of ranks that a message names for one value. */
const mostRanks = 8;

/** Resolves to the options of a run on which all its processes must agree. */
export async function agreedOptions<M extends Module, B>({
  op,
  model,
  options,
  settings,
  distributed,
  cut,
  data,
  held,
}: Plan<M, B>): Promise<AgreedOptions> {
  const { schedule, ...numbers } = settings;
  const { resume, checkpoint, optimizer = {}, maxNorm = 1, spikes, newData = false } = options;
  return texts({
    trainer: op,
    ...numbers,
    schedule: scheduleDigest(schedule, settings.steps),
    dtype: (model as { dtype?: string }).dtype ?? "f32",
    lossScale: options.lossScale ?? {},
    maxNorm,
    optimizer,
    ema: options.ema ?? null,
    spikes: spikes ?? null,
    newData,
    ...cut,
    data: await dataDigest(data),
    validation: await dataDigest(held),
    "hash of the data": checkpoint?.options?.hash ?? null,
    checkpoint: checkpoint ? "given" : "none",
    // The step alone does not tell two runs apart.
    "checkpoint to resume from": resume ? `step ${resume.state.step}, ${digest(resume.state)}` : "none",
    zero: distributed?.zero ?? false,
    wire: distributed?.wire ?? "f32",
    bucketBytes: distributed?.bucketBytes ?? 0,
  });
}

/** Returns the texts of options. Functions in them count by their kind. */
function texts(options: Record<string, unknown>): AgreedOptions {
  const text = (value: unknown): string =>
    typeof value === "string"
      ? value
      : (JSON.stringify(value, (_, one: unknown) =>
          typeof one === "function" ? "a function" : typeof one === "number" ? String(one) : one,
        ) ?? "none");
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [name, text(value).replaceAll('"', "")]));
}

/** Returns a digest of the learning rates of some steps. */
function scheduleDigest(schedule: (step: number) => number, steps: number): string {
  const rates = Array.from({ length: 33 }, (_, i) => schedule(Math.floor((i * Math.max(0, steps - 1)) / 32)));
  return `rates ${digest(rates)}`;
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 12);
}

/**
 * Compares the options of all processes, before the first step.
 *
 * @throws ERR_DISTRIBUTED in all processes if they differ; the message says which and where.
 */
export async function checkAgreement(collectives: Collectives, own: AgreedOptions): Promise<void> {
  const all = (await collectives.gatherJson(own)) as AgreedOptions[];
  const names = new Set(all.flatMap((options) => Object.keys(options)));
  const differences = [...names].flatMap((name) => {
    const ranks = new Map<string, number[]>();
    for (const [rank, options] of all.entries()) {
      const value = options[name] ?? "none";
      ranks.set(value, [...(ranks.get(value) ?? []), rank]);
    }
    if (ranks.size === 1) return [];
    return [`${name}: ${[...ranks].map(([value, at]) => `${value} at ${rankNames(at)}`).join(", ")}`];
  });
  if (differences.length === 0) return;
  throw new HeedError(
    "ERR_DISTRIBUTED",
    `distributed: expected the same options in all processes, got ${differences.join("; ")}`,
  );
}

function rankNames(ranks: readonly number[]): string {
  const named = ranks.slice(0, mostRanks).join(", ");
  const more = ranks.length > mostRanks ? ` and ${ranks.length - mostRanks} more` : "";
  return `${ranks.length === 1 ? "rank" : "ranks"} ${named}${more}`;
}
