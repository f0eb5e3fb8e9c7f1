import type { Case, Goals } from "./case.js";
import type { Memory } from "./peers/peer.js";
import type { Peaks } from "./peaks.js";
import { rounded, type Statistics } from "./statistics.js";

/** A contender's times, its memory in bytes, and its time divided by heed's (above 1, heed is faster); or the error. */
export type PeerResult = (Statistics & { ratio: number; memory?: number }) | { error: string };

export interface GoalResult {
  kind: keyof Goals;
  goal: number;
  got: number;
  met: boolean;
}

/** A line of the results. */
export interface Row {
  name: string;
  shape: string;
  dtype: string;
  device: string;
  heed: Statistics & { memory?: number };
  rate: { value: number; unit: string };
  /** Share of the machine's peak. */
  peak?: number;
  /** Results of the peers by their names. */
  peers: Record<string, PeerResult>;
  goals: GoalResult[];
}

/** Name among the peers of heed itself on one thread. */
export const oneThread = "heed, 1 thread";
export const eager = "PyTorch";
export const compiled = "PyTorch compiled";

export type PeerMeasured = (Statistics & { memory: Memory | null }) | { error: string };

/** Measurements of a case. */
export interface Measured {
  heed: Statistics;
  memory: Memory | null;
  peers: ReadonlyMap<string, PeerMeasured>;
}

export function rowOf(one: Case, { heed, memory, peers }: Measured, peaks: Peaks | null): Row {
  const { work, bound, dtype } = one;
  const bytes = (taken: Memory | null): { memory?: number } =>
    taken && one.memory ? { memory: taken[one.memory] } : {};
  const row: Row = {
    name: one.name,
    shape: one.shape,
    dtype: one.format ?? dtype,
    device: one.device,
    heed: { ...heed, ...bytes(memory) },
    rate: rateOf(one, heed.median),
    peers: Object.fromEntries(
      [...peers].map(([name, result]): [string, PeerResult] => {
        if ("error" in result) return [name, result];
        const { memory, ...times } = result;
        return [name, { ...times, ratio: rounded(times.median / heed.median), ...bytes(memory) }];
      }),
    ),
    goals: [],
  };
  if (peaks && bound) {
    const most = bound === "memory" ? peaks.read : dtype === "bf16" ? Math.max(peaks.bf16 ?? 0, peaks.f32) : peaks.f32;
    row.peak = rounded((bound === "memory" ? work.bytes! : work.flops!) / heed.median / 1e6 / most);
  }
  row.goals = Object.entries(one.goals ?? {}).flatMap(([name, goal]: [string, number]) => {
    const kind = name as keyof Goals;
    const got = reached(row, kind);
    if (got === null) return [];
    return { kind, goal, got: rounded(got), met: kind === "memory" ? got <= goal : got >= goal };
  });
  return row;
}

function rateOf({ work }: Case, ms: number): Row["rate"] {
  const { tokens, operations, flops, bytes } = work;
  const per = (amount: number): number => rounded((amount / ms) * 1000);
  if (tokens !== undefined) return { value: per(tokens), unit: "tokens/s" };
  if (operations !== undefined) return { value: per(operations), unit: "operations/s" };
  if (flops !== undefined) return { value: per(flops / 1e9), unit: "GFLOP/s" };
  return { value: per(bytes! / 1e9), unit: "GB/s" };
}

/** Returns the value of a row that a goal is about; null if it was not measured. */
function reached(row: Row, kind: keyof Goals): number | null {
  const ratioTo = (name: string): number | null => {
    const peer = row.peers[name];
    return peer && "ratio" in peer ? peer.ratio : null;
  };
  switch (kind) {
    case "best":
      return bestOf(row)?.ratio ?? null;
    case "eager":
      return ratioTo(eager);
    case "compiled":
      return ratioTo(compiled);
    case "scaling":
      return ratioTo(oneThread);
    case "peak":
      return row.peak ?? null;
    case "rate":
      return row.rate.value;
    case "memory": {
      const peer = row.peers[eager];
      if (!peer || "error" in peer || !peer.memory || row.heed.memory === undefined) return null;
      return row.heed.memory / peer.memory;
    }
  }
}

/** Returns the peer that is fastest by the median or by the fastest run, and its ratio; null if there is none. */
export function bestOf(row: Row, by: "median" | "min" = "median"): { name: string; ratio: number } | null {
  const times = Object.entries(row.peers).flatMap(([name, peer]) =>
    "median" in peer && name !== oneThread ? { name, ratio: rounded(peer[by] / row.heed[by]) } : [],
  );
  return times.sort((a, b) => a.ratio - b.ratio)[0] ?? null;
}

const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** Returns what was reached and the goal: "1.12× the speed of the fastest peer (goal 1.4×)". */
export function goalText({ kind, goal, got }: GoalResult): string {
  switch (kind) {
    case "best":
      return `${got}× the speed of the fastest peer (goal ${goal}×)`;
    case "eager":
      return `${got}× the speed of eager PyTorch (goal ${goal}×)`;
    case "compiled":
      return `${got}× the speed of compiled PyTorch (goal ${goal}×)`;
    case "scaling":
      return `${got}× the speed of one thread (goal ${goal}×)`;
    case "peak":
      return `${percent(got)} of the peak (goal ${percent(goal)})`;
    case "memory":
      return `${percent(got)} of PyTorch's memory (goal: at most ${percent(goal)})`;
    case "rate":
      return `${got.toLocaleString("en")} operations a second (goal ${goal.toLocaleString("en")})`;
  }
}
