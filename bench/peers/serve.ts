// The other end of the protocol of peer.ts, for peers in Node.js.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { Clock, sampleOf } from "../clock.js";
import { installed } from "./install.js";
import type { Hello, PrepareAnswer, PrepareRequest } from "./peer.js";

/** A case that is ready to run; see `Prepared` in case.ts. */
export interface Twin {
  run: () => unknown;
  result?: number[];
  release?: () => unknown;
}

/** Dtypes of each case and the function that prepares it, by the name of the case. */
export type Twins = Record<string, { dtypes: readonly string[]; prepare: (request: TwinRequest) => Promise<Twin> }>;

/** Arguments of a case. */
export interface TwinRequest {
  number: (name: string) => number;
  text: (name: string) => string;
  dtype: string;
  threads: number;
}

type Request =
  ({ action: "prepare" } & PrepareRequest) | { action: "time"; seconds: number; least: number } | { action: "release" };

/** Loads a package from the folder of peers, where install.ts put it. */
export async function load<T>(name: string): Promise<T> {
  const file = createRequire(`${installed}/package.json`).resolve(name);
  return (await import(pathToFileURL(file).href)) as T;
}

/** Answers requests until the input ends. */
export async function serve(version: string, twins: Twins): Promise<void> {
  console.log = console.info = console.warn = console.error; // the standard output is for answers
  const answer = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`);
  const cases = Object.fromEntries(Object.entries(twins).map(([name, { dtypes }]) => [name, dtypes]));
  answer({ version, cases } satisfies Hello);
  let twin: Twin | null = null;
  let clock: Clock | null = null;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request;
    try {
      if (request.action === "prepare") {
        twin = await prepare(twins, request);
        clock = new Clock(sampleOf(twin.run));
        await clock.once();
        answer({ result: twin.result ?? null, memory: null } satisfies PrepareAnswer);
      } else if (request.action === "time") answer({ times: await clock!.times(request.seconds, request.least) });
      else {
        await twin?.release?.();
        twin = clock = null;
        answer({});
      }
    } catch (error) {
      answer({ error: String(error instanceof Error ? error.message : error).slice(0, 300) });
    }
  }
  process.exit(); // a peer may have left threads that run
}

function prepare(twins: Twins, { case: args, dtype, threads }: PrepareRequest): Promise<Twin> {
  const number = (name: string): number => Number(args[name]);
  const text = (name: string): string => String(args[name]);
  return twins[args.name as string]!.prepare({ number, text, dtype, threads });
}

/** Returns pseudorandom numbers in (−scale, scale). */
export function noise(count: number, scale = 1): Float32Array {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * scale;
  });
}

/** Returns the tokens of a prompt. They are the same as in heed's cases. */
export function promptOf(sequence: number, length: number, vocabulary: number): number[] {
  return Array.from({ length }, (_, i) => ((sequence * length + i) * 7919) % vocabulary);
}

/** Throws unless the two values agree to the tolerance. */
export function expectClose(what: string, got: number, expected: number, tolerance: number): void {
  if (!(Math.abs(got - expected) <= tolerance)) throw new Error(`${what}: expected ${expected}, got ${got}`);
}
