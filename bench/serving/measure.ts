// Measures a plan: every contestant is checked, and then takes its turn with each load.
import { type CausalDecoder, generateTokens } from "heed";
import { verifyTokens } from "../verify-tokens.js";
import type { ContestantName } from "./child.js";
import type { Figures } from "./figures.js";
import type { ServerOptions } from "./heed-server.js";
import { firstRequests, longest, meanAnswer, type ServingRequest, type Traffic } from "./load.js";
import { createModel, type Format, writeLlamaFile } from "./models.js";
import { nameOf, type Plan, type PlannedLoad } from "./plan.js";
import { Remote } from "./remote.js";
import type { ServingRow, ScenarioRow } from "./report.js";

/** Options of a run. */
export interface MeasureOptions {
  device: string;
  threads: number;
  /** Seconds of each load. */
  seconds: number;
  contestants: readonly ContestantName[];
  /** Is called after each row. */
  onRow: (row: ServingRow | ScenarioRow) => void;
  /** Is called with the version of a peer that runs. */
  onVersion: (name: ContestantName, version: string) => void;
}

/** Largest distance of a peer's token from the likeliest one that rounding of weights and activations explains. */
const margins: Record<Format, number> = { f32: 2e-3, bf16: 0.1, int8: 0.2 };

interface Contender {
  name: ContestantName;
  remote: Remote;
  /** Most requests per second that callers reached; 0 if that is not known. */
  saturation: number;
}

/** Measures the loads and the scenarios of a plan. */
export async function measure(plan: Plan, options: MeasureOptions): Promise<void> {
  const { model, format, loads, scenarios } = plan;
  const { device, threads } = options;
  if (loads.length > 0) await measureLoads(plan, options);
  if (scenarios.length === 0) return;
  const remote = new Remote("heed");
  try {
    for (const scenario of scenarios) {
      const findings = await remote.ask("play", { options: { model, format, device, threads }, scenario });
      options.onRow({ model, format, findings });
    }
  } finally {
    await remote.stop();
  }
}

async function measureLoads(plan: Plan, options: MeasureOptions): Promise<void> {
  const { model, format, loads } = plan;
  const contenders: Contender[] = [];
  const errors: Partial<Record<ContestantName, string>> = {};
  try {
    for (const name of options.contestants)
      try {
        contenders.push(await start(name, plan, options));
      } catch (error) {
        if (name === "heed") throw error;
        errors[name] = (error as Error).message;
      }
    for (const load of loads) {
      const results: ServingRow["results"] = {};
      for (const contender of contenders)
        try {
          results[contender.name] = await turn(contender, load, options.seconds);
        } catch (error) {
          if (contender.name === "heed") throw error;
          results[contender.name] = { error: (error as Error).message };
        }
      for (const [name, error] of Object.entries(errors)) results[name as ContestantName] = { error };
      options.onRow({ model, format, load: nameOf(load), results });
    }
  } finally {
    for (const { remote } of contenders) await remote.stop();
  }
}

/** Starts a contestant and checks its tokens. */
async function start(name: ContestantName, plan: Plan, options: MeasureOptions): Promise<Contender> {
  const { model, format, loads } = plan;
  if (name === "llama.cpp") await writeLlamaFile(model, format);
  const room: ServerOptions = {
    ...{ model, format, device: options.device, threads: options.threads },
    sequences: Math.max(...loads.map(({ callers }) => callers)),
    length: Math.max(...loads.map(({ traffic }) => longest(traffic))),
  };
  const remote = new Remote(name);
  try {
    const version = await remote.ask("start", { contestant: name, options: room });
    if (version !== null) options.onVersion(name, version);
    await verify(name, plan, remote);
    return { name, remote, saturation: 0 };
  } catch (error) {
    await remote.stop();
    throw error;
  }
}

/** Throws unless requests at the same time get the tokens that heed gives each of them alone, on the CPU. */
async function verify(name: ContestantName, { model: subject, format, loads }: Plan, remote: Remote): Promise<void> {
  const traffic: Traffic = { ...loads[0]!.traffic, answer: [4, 12] };
  using model = await createModel(subject, format, "cpu");
  const requests = firstRequests(traffic, model.config.vocabularySize, 7, 8);
  const answers = await remote.ask("answer", requests);
  for (const [i, request] of requests.entries()) await verifyAnswer(name, model, request, answers[i]!, margins[format]);
}

async function verifyAnswer(
  name: ContestantName,
  model: CausalDecoder,
  { tokens: prompt, maxTokens }: ServingRequest,
  answer: number[],
  margin: number,
): Promise<void> {
  if (answer.length !== maxTokens) throw new Error(`expected ${maxTokens} tokens, got ${answer.length}`);
  if (name !== "heed") return verifyTokens(model, Int32Array.from(prompt), answer, margin);
  const [alone] = await generateTokens(model, [prompt], { maxTokens, temperature: 0 });
  if (alone!.tokens.join() !== answer.join())
    throw new Error(`expected the tokens of the request alone, ${alone!.tokens.join(" ")}, got ${answer.join(" ")}`);
}

async function turn(contender: Contender, load: PlannedLoad, seconds: number): Promise<Figures> {
  const { traffic, callers, share } = load;
  const drive = (load: { kind: "closed"; callers: number } | { kind: "open"; rate: number }): Promise<Figures> =>
    contender.remote.ask("drive", { traffic, seconds, seed: 1, ...load });
  const closed = async (): Promise<Figures> => {
    const figures = await drive({ kind: "closed", callers });
    // Tokens are many, so they tell the requests per second better than the few requests that end in a short time.
    const reached = figures.tokensPerSecond / meanAnswer(traffic);
    if (!traffic.shared) contender.saturation = Math.max(contender.saturation, reached);
    return figures;
  };
  if (share === undefined) return closed();
  if (contender.saturation === 0) await closed();
  return drive({ kind: "open", rate: share * contender.saturation });
}
