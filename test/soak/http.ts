/**
 * Puts a load on a server over HTTP: node http.js MINUTES SEED FOLDER, started by main.ts. The server is a process of its
 * own (http-server.ts), so that its pauses and its memory are its own. At the end it gets SIGTERM while requests run, and
 * servers that live for two seconds get it too. Others, which continue each other's work on the disk, get SIGKILL.
 */
import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../support/random.js";
import { ask, clients } from "./http-clients.js";
import type { Lane } from "./http-lane.js";
import { killRepeatedly } from "./http-kill.js";
import { ServerProcess } from "./http-process.js";
import { apiKeys, type Begun, drainSeconds } from "./http-settings.js";
import { growth, longestOf, longestTurn, type PeriodTurns, turnLines } from "./measure.js";
import { pick } from "./world.js";

const [minutes, seed] = process.argv.slice(2, 4).map(Number) as [number, number];
const folder = path.join(process.argv[4]!, "disk");
const random = new Random(seed);
const MiB = 2 ** 20;
/** Number of clients that act at the same time. */
const lanes = 12;
/** Seconds that clients may take after the end of their period, beyond which they count as hanging. */
const patience = 120;
/** Bytes by which the server may grow from the third quarter to the last: V8's heap varies by half of it. */
const tolerance = 32 * MiB;

const failures: string[] = [];
function fail(where: string, error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  failures.push(`${where}: ${text}`);
  console.log(`FAILED ${where}: ${text}`);
}

const server = new ServerProcess(seed, path.join(folder, "server"), (failure) => fail("the server", failure));
const begun = await server.begun();
let fault = "no fault";
const total = { done: 0, refused: 0 };
const refusals: Record<string, number> = {};
const laneOf = (of: Begun): Lane => ({
  ...{ ...of, random },
  broken: () => /^(failed steps|broken weights|no memory)/.test(fault),
  refused: (code) => {
    total.refused++;
    refusals[code] = (refusals[code] ?? 0) + 1;
  },
});
const lane = laneOf(begun);

async function metric(name: string): Promise<number> {
  const headers = { authorization: `Bearer ${apiKeys[0]}` };
  const lines = (await (await fetch(`${begun.url}/metrics`, { headers })).text()).split("\n");
  const values = lines.filter((line) => line.startsWith(name)).map((line) => Number(line.split(" ").at(-1)));
  return values.reduce((sum, value) => sum + value, 0);
}

/** Name of the fault by which servers are killed. */
const killed = "killed servers";
let kills = 0;

/** Waits until no request runs and every page has been given back. */
async function settled(): Promise<void> {
  const names = ["heed_engine_requests_running", "heed_engine_requests_waiting", "heed_engine_kv_pages_used"];
  let held: number[] = [];
  for (let tries = 0; tries < 200; tries++) {
    held = await Promise.all(names.map(metric));
    if (held.every((count) => count === 0)) return;
    await sleep(50);
  }
  fail(`after ${fault}`, `expected no requests and no pages in use, got ${held.join(", ")}`);
}

/** Lets clients act for some seconds. */
async function period(seconds: number): Promise<void> {
  const end = performance.now() + 1000 * seconds;
  const acting = new Map<number, string>();
  const hangs = setTimeout(
    () => {
      console.log(`FAILED ${[...acting.values()].join(", ")} with ${fault}: does not end`);
      server.kill("SIGKILL");
      process.exit(1);
    },
    1000 * (seconds + patience),
  );
  await Promise.all(
    Array.from({ length: lanes }, async (_, i) => {
      while (performance.now() < end) {
        const client = pick(random, clients);
        acting.set(i, client.name);
        await client(lane).then(
          () => total.done++,
          (error: unknown) => fail(`${client.name} with ${fault}`, error),
        );
      }
      acting.delete(i);
    }),
  );
  clearTimeout(hangs);
}

// A run of a few seconds has only the first faults.
const faults = [...begun.faults, killed].slice(0, Math.max(1, Math.floor(60 * minutes)));
const seconds = Math.min(10, (60 * minutes) / faults.length);
console.log(`soak of the server: ${minutes} minutes, --seed ${seed}, ${faults.length} kinds of faults`);
const started = performance.now();
const turns: PeriodTurns[] = [];
/** Everything that the server holds, at the end of each period. */
const series: Record<string, number[]> = {};

for (let count = 0; count < faults.length || performance.now() - started < 60_000 * minutes; count++) {
  fault = faults[count % faults.length]!;
  const since = performance.now();
  const { done, refused } = total;
  if (fault === killed) {
    const one = { folder: path.join(folder, "killed"), seed: seed + 1000 * count, random, laneOf, lanes };
    const counted = { done: () => total.done++, fail: (error: unknown) => fail(fault, error) };
    kills += await killRepeatedly(seconds, { ...one, ...counted });
  } else {
    await server.tell({ fault });
    await period(seconds);
    await server.tell("calm");
  }
  await settled();
  await server.readLog().catch((error: unknown) => fail(`the log after ${fault}`, error));
  const struck = fault;
  fault = "no fault";
  // Whatever there was, the server answers as before.
  await Promise.all(Array.from({ length: 8 }, () => ask(lane))).catch((error: unknown) =>
    fail(`after ${struck}`, error),
  );
  await settled();
  const { size, heap, held, pauses } = await server.measure();
  for (const [name, value] of Object.entries({ ...held, bytes: size, heap })) (series[name] ??= []).push(value);
  turns.push({ pauses, withoutMemory: struck.startsWith("no memory") });
  const columns = [
    String(count + 1).padStart(4),
    struck.padEnd(24),
    `${((performance.now() - since) / 1000).toFixed(1).padStart(5)} s`,
    `${String(total.done - done).padStart(5)} done`,
    `${String(total.refused - refused).padStart(5)} refused`,
    `${(size / MiB).toFixed(0).padStart(5)} MiB`,
    `heap ${(heap / MiB).toFixed(1).padStart(5)} MiB`,
    `longest turn ${pauses.busy.toFixed(0).padStart(3)} ms`,
  ];
  console.log(columns.join("  "));
}

/**
 * Shuts a server down while requests run: each is answered, or told that the server goes. Resolves to the seconds that
 * this takes.
 */
async function shutDown(process: ServerProcess, lane: Lane, client = ask): Promise<number> {
  let stopping = false;
  const port = Number(new URL(lane.url).port);
  const unused = connect(port, "127.0.0.1").on("error", () => undefined);
  await once(unused, "connect");
  const since = performance.now();
  const asking = Array.from({ length: lanes }, async () => {
    while (!stopping || performance.now() - since < 1000)
      try {
        await client(lane);
      } catch (error) {
        if (!stopping) throw error;
        // A connection is refused or closed, or a request is told to come again.
        if (error instanceof TypeError) return;
        ok(/shutting_down|ECONNRE/.test(String(error)), String(error));
      }
  });
  await sleep(200);
  stopping = true;
  process.kill("SIGTERM");
  const signalled = performance.now();
  await Promise.all(asking);
  const [code, signal] = await process.exit;
  deepStrictEqual([code, signal], [0, null]);
  unused.destroy();
  const took = (performance.now() - signalled) / 1000;
  ok(took < drainSeconds + 5, `expected the server to end within ${drainSeconds + 5} s, it took ${took} s`);
  return took;
}

/** Starts a server, lets clients of all kinds act, and shuts it down in the middle of that. */
async function liveShortly(which: number): Promise<number> {
  const own = path.join(folder, "restarts");
  const another = new ServerProcess(seed + which, own, (failure) => fail(`server ${which}`, failure));
  const ended = AbortSignal.timeout(1000 * patience);
  ended.addEventListener("abort", () => another.kill("SIGKILL"));
  try {
    const lane = laneOf(await another.begun());
    const end = performance.now() + 2000;
    const act = async (): Promise<void> => {
      while (performance.now() < end) await pick(random, clients)(lane);
    };
    await Promise.all(Array.from({ length: lanes }, act));
    const took = await shutDown(another, lane, (lane) => pick(random, clients)(lane));
    await another.readLog();
    return took;
  } catch (error) {
    fail(`server ${which}`, error);
    another.kill("SIGKILL");
    return NaN;
  }
}

const sizes = series.bytes!;
// If half of a run has been through all faults only once, it does not yet show growth. Shorter runs share the machine
// with other tests, so that their turns say little.
const judged = sizes.length >= 4 * faults.length;
const grown = growth(sizes);
for (const [name, values] of judged ? Object.entries(series) : []) {
  // Recordings of steps and connections are kept for some time, so that their number goes up and down.
  const first = values.slice(faults.length, Math.ceil(values.length / 2));
  const allowed = name === "bytes" || name === "heap" ? tolerance : Math.max(...first) - Math.min(...first);
  if (growth(values) <= allowed) continue;
  fail("what is held", `expected ${name} to grow by at most ${allowed} in the second half, got ${growth(values)}`);
  console.log(`${name} after each period: ${values.join(" ")}`);
}
// In the first round, JavaScript is compiled.
const later = judged ? turns.slice(faults.length) : turns;
const [{ busy: longest }] = longestOf(later);
if (judged && longest > longestTurn)
  fail("event loop", `expected turns of at most ${longestTurn} ms, got ${longest.toFixed(0)} ms`);
if (judged && faults.includes("full disk") && server.failedWrites === 0)
  fail("full disk", "expected writes to fail while the disk is full, got none that did");
const generated = await metric("heed_engine_generated_tokens_total");
strictEqual(await metric("heed_engine_requests_running"), 0);
const drained = await shutDown(server, lane).catch((error: unknown) => {
  fail("shutting down", error);
  server.kill("SIGKILL");
  return NaN;
});
// 40 of them in 20 minutes.
const restarts: number[] = [];
while (restarts.length < Math.floor(2 * minutes)) restarts.push(await liveShortly(restarts.length + 1));
console.log(`
seed              ${seed}
time              ${((performance.now() - started) / 60_000).toFixed(1)} minutes, ${sizes.length} periods
clients           ${total.done} done, ${generated} tokens
refused           ${
  Object.entries(refusals)
    .map(([code, count]) => `${count} ${code}`)
    .join(", ") || "none"
}
resident memory   ${(sizes[0]! / MiB).toFixed(0)} MiB after the first period, ${(sizes.at(-1)! / MiB).toFixed(0)} MiB after the last
growth            ${judged ? `${(grown / MiB).toFixed(1)} MiB in the second half, of ${tolerance / MiB} MiB allowed` : "not judged in so short a time"}
${turnLines(later)}
disk              ${server.failedWrites} writes failed; ${kills} servers were killed and ${server.saved} models saved
shutting down     took ${drained.toFixed(1)} s, and at most ${Math.max(0, ...restarts).toFixed(1)} s in ${restarts.length} restarts
failures          ${failures.length}`);
process.exitCode = failures.length === 0 ? 0 : 1;
