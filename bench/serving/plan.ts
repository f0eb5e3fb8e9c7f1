// Which models are served under which loads.
import type { Traffic } from "./load.js";
import { type Format, type ModelName, servingModels } from "./models.js";
import type { Scenario } from "./scenarios.js";

/** Load whose rate or length follows from what is measured. */
export interface PlannedLoad {
  readonly traffic: Traffic;
  /** Number of callers, each of whom has one request at a time. */
  readonly callers: number;
  /** Share of the requests per second that these callers reach, at which requests arrive instead. @default null */
  readonly share?: number;
}

/** A model and what is measured with it. */
export interface Plan {
  readonly model: ModelName;
  readonly format: Format;
  readonly loads: readonly PlannedLoad[];
  readonly scenarios: readonly Scenario[];
}

/** Returns the name of a load, as it is shown. */
export function nameOf({ traffic: { shared }, callers, share }: PlannedLoad): string {
  if (share !== undefined) return `arrivals at ${share} of saturation`;
  return `${callers} ${callers === 1 ? "caller" : "callers"}${shared ? `, ${shared} tokens shared` : ""}`;
}

/** Returns the part of plans whose model, format, and load or scenario contain one of the texts. */
export function chosen(plans: readonly Plan[], texts: readonly string[]): Plan[] {
  return plans.flatMap((plan) => {
    const { model, format } = plan;
    const wanted = (name: string): boolean => texts.some((text) => `${model} ${format} ${name}`.includes(text));
    const loads = plan.loads.filter((load) => wanted(nameOf(load)));
    const scenarios = plan.scenarios.filter(({ kind }) => wanted(kind));
    return loads.length + scenarios.length > 0 ? [{ ...plan, loads, scenarios }] : [];
  });
}

function loadsOf(traffic: Traffic, callers: readonly number[], shared: number): PlannedLoad[] {
  return [
    ...callers.map((callers) => ({ traffic, callers })),
    { traffic: { ...traffic, shared }, callers: callers.includes(32) ? 32 : callers.at(-1)! },
    ...[0.5, 0.8, 1].map((share) => ({ traffic, callers: callers.at(-1)!, share })),
  ];
}

const batch = { kind: "batch", prompt: 64, answer: 64, rounds: 3 } as const;

/** Returns everything that is measured. */
export function fullPlan(): Plan[] {
  const traffic: Traffic = { prompt: [16, 400], answer: [16, 128] };
  // The context of stories260K is 512 tokens.
  const short: Traffic = { prompt: [16, 200], answer: [16, 128] };
  const equal = [8, 32].map((streams) => ({ ...batch, streams }));
  const http = (traffic: Traffic): Scenario => ({ kind: "http", callers: 32, traffic, seconds: 5, rounds: 3 });
  const plans = (["bf16", "int8"] as const).flatMap((format): Plan[] => [
    { model: "stories260K", format, loads: loadsOf(short, [1, 8, 32, 128], 128), scenarios: [...equal, http(short)] },
    { model: "gpt2", format, loads: loadsOf(traffic, [1, 8, 32, 128], 256), scenarios: [...equal, http(traffic)] },
    {
      ...{ model: "gpt2 for 5120 tokens", format, loads: [] },
      scenarios: [
        { kind: "long prompt", streams: 8, prompt: 4000 },
        { kind: "shared prompt", requests: 8, shared: 1000 },
      ],
    },
    // Keys and values of 128 sequences would take 8 GB.
    { model: "qwen3 0.5B", format, loads: loadsOf(traffic, [1, 8, 32], 256), scenarios: equal },
  ]);
  return plans.filter(({ model }) => servingModels[model].available);
}

/** Returns a plan that shows in seconds that everything works. */
export function smokePlan(): Plan[] {
  const traffic: Traffic = { prompt: [4, 40], answer: [4, 16] };
  const scenarios: Scenario[] = [
    { ...batch, streams: 3, prompt: 8, answer: 8, rounds: 1 },
    { kind: "long prompt", streams: 2, prompt: 100 },
    { kind: "shared prompt", requests: 3, shared: 130 },
    { kind: "http", callers: 4, traffic, seconds: 0.2, rounds: 1 },
  ];
  const loads = loadsOf(traffic, [1, 4], 70);
  return [
    { model: "tiny", format: "f32", loads, scenarios },
    { model: "tiny", format: "int8", loads: loads.slice(1, 2), scenarios: [] },
  ];
}
