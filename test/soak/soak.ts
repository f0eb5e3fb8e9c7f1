/** The process that does the work: node soak.js MINUTES SEED ROOT SMALL, started by main.ts. */
import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Device, device, devices, HeedError } from "heed";
import { HubServer } from "../hub/server.js";
import { Random } from "../support/random.js";
import { TurnWatch } from "../support/turns.js";
import { endFaults, type Fault, faultsOf } from "./faults.js";
import {
  excess,
  growth,
  type Held,
  longestOf,
  longestTurn,
  type PeriodTurns,
  resourcesHeld,
  tensorsHeld,
  turnLines,
  whatIsLeft,
} from "./measure.js";
import { formats, newSpeaker, pick, Place, save, type Work } from "./world.js";

const [minutes, seed] = process.argv.slice(2, 4).map(Number) as [number, number];
const [root, small] = [process.argv[4]!, process.argv[5] === "true"];
const disk = path.join(root, "disk");
const models = path.join(root, "models");
const random = new Random(seed);

const MiB = 2 ** 20;
/** The number of jobs that run at the same time. */
const lanes = 3;
/**
 * The longest time, in seconds, that work may take after the end of its period; work that takes longer counts as
 * hanging.
 */
const patience = 120;
/**
 * The largest number of bytes by which the process may grow from the third quarter to the last. V8's and glibc's heaps
 * vary by half of it.
 */
const tolerance = 48 * MiB;

const failures: string[] = [];
function fail(where: string, error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  failures.push(`${where}: ${text}`);
  console.log(`FAILED ${where}: ${text}`);
}
process.on("unhandledRejection", (error) => fail("unhandled rejection", error));
process.on("warning", (warning) => {
  if (warning.name !== "ExperimentalWarning") fail("warning", warning);
});

const watch = new TurnWatch();

interface Counts {
  done: number;
  refused: number;
}

/** Does one job after another until the period ends. */
async function work(fault: Fault, place: Place, folder: string, over: () => boolean, counts: Counts): Promise<void> {
  mkdirSync(folder, { recursive: true });
  while (!over()) {
    const chosen: Work = pick(random, fault.work);
    running.set(folder, chosen.name);
    try {
      await chosen({ place, folder, random });
      counts.done++;
    } catch (error) {
      if (error instanceof HeedError && fault.causes.includes(error.code)) counts.refused++;
      else fail(`${chosen.name} on ${place.device}, ${fault.name}`, error);
    }
  }
  running.delete(folder);
}
/** The job that each lane is doing, by the lane's folder. */
const running = new Map<string, string>();

async function strike(fault: Fault, over: () => boolean): Promise<void> {
  while (!over()) {
    const end = await fault.strike(random);
    await sleep(100 + random.integer(400));
    await end();
    await sleep(random.integer(100));
  }
}

/** Reads failures that nobody has read, so that they do not affect the next period. */
async function settle(on: Device): Promise<void> {
  for (let told = false; !told;)
    told = await on.synchronize().then(
      () => true,
      () => false,
    );
}

async function period(fault: Fault, place: Place, seconds: number): Promise<Counts> {
  const counts = { done: 0, refused: 0 };
  const end = performance.now() + 1000 * seconds;
  const over = (): boolean => performance.now() >= end;
  const hangs = setTimeout(
    () => {
      console.log(`FAILED ${[...running.values()].join(", ")} on ${place.device}, ${fault.name}: does not end`);
      process.exit(1);
    },
    1000 * (seconds + patience),
  );
  const folders = Array.from({ length: lanes }, (_, i) => path.join(disk, String(i)));
  await Promise.all([strike(fault, over), ...folders.map((folder) => work(fault, place, folder, over, counts))]);
  clearTimeout(hangs);
  for (const folder of folders) rmSync(folder, { recursive: true });
  return counts;
}

console.log(
  `soak: ${minutes} minutes, --seed ${seed}${small ? "" : "; without a small disk, so that it is never full"}`,
);
const names = devices().flatMap(({ name, available }) => (available && name !== "cuda:1" ? [name] : []));
if (names.length < 2) console.log("soak: no CUDA device, so that all is done on the CPU");
const used = devices().flatMap(({ name, available }) => (available ? [device(name)] : []));

mkdirSync(models, { recursive: true });
{
  using speaker = newSpeaker("cpu");
  for (const format of formats) await save(speaker, models, format);
}
const places: Place[] = [];
for (const name of names) places.push(await Place.open(name, models));

{
  // `fetch` compiles WebAssembly when it is first used, and never works if there is no memory for that.
  await using hub = await HubServer.start({});
  await (await fetch(hub.url)).text();
}

watch.longest();
await sleep(1000);
const idle = watch.longest().busy;
const rounds = places.flatMap((place) => faultsOf(place.device, disk, small).map((fault) => ({ place, fault })));
const seconds = Math.min(10, (60 * minutes) / rounds.length);
const tensors = (): Held => tensorsHeld(used);
const resources = (): Held => resourcesHeld(small ? disk : null);
const tensorsBefore = tensors();
/**
 * Measured after the first round, because things that are made when they are first needed, such as threads, may stay.
 */
let resourcesBefore: Held | null = null;
const started = performance.now();
const sizes: number[] = [];
const total = { done: 0, refused: 0 };
const turns: PeriodTurns[] = [];

for (let count = 0; count < rounds.length || performance.now() - started < 60_000 * minutes; count++) {
  const { place, fault } = rounds[count % rounds.length]!;
  const began = performance.now();
  const { done, refused } = await period(fault, place, seconds);
  const pauses = watch.longest();
  for (const each of used) await settle(each);
  await place.check().catch((error: unknown) => fail(`after ${fault.name} on ${place.device}`, error));
  // Code that makes tensors must dispose them; it may leave them to the collector only if there was a fault in between.
  const left = [
    ...(fault.causes.length === 0 ? excess(tensorsBefore, tensors()) : []),
    ...(await whatIsLeft(tensors, tensorsBefore)),
    ...(resourcesBefore ? await whatIsLeft(resources, resourcesBefore) : []),
  ];
  for (const what of new Set(left))
    fail(`after ${fault.name} on ${place.device}`, `expected nothing to be left, got ${what}`);
  for (const each of used) await each.emptyCache();
  if (count === rounds.length - 1) resourcesBefore = resources();
  sizes.push(process.memoryUsage.rss());
  watch.longest();
  total.done += done;
  total.refused += refused;
  turns.push({ pauses, withoutMemory: fault.causes.includes("ERR_OOM") });
  const columns = [
    String(count + 1).padStart(4),
    String(place.device).padEnd(6),
    fault.name.padEnd(17),
    `${((performance.now() - began) / 1000).toFixed(1).padStart(5)} s`,
    `${String(done).padStart(5)} done`,
    `${String(refused).padStart(4)} refused`,
    `${(sizes.at(-1)! / MiB).toFixed(0).padStart(5)} MiB`,
    `longest turn ${pauses.busy.toFixed(0).padStart(4)} ms`,
  ];
  console.log(columns.join("  "));
}

// If half of a run has been through all faults only once, it does not yet show growth.
const judged = sizes.length >= 4 * rounds.length;
const grown = growth(sizes);
if (judged && grown > tolerance)
  fail("memory", `expected the process to grow by at most ${tolerance / MiB} MiB, got ${(grown / MiB).toFixed(1)} MiB`);
// In the first round, JavaScript is compiled. Shorter runs share the machine with other tests.
const later = judged ? turns.slice(rounds.length) : turns;
const [{ busy: longest }] = longestOf(later);
if (judged && longest > longestTurn)
  fail("event loop", `expected turns of at most ${longestTurn} ms, got ${longest.toFixed(0)} ms`);
for (const place of places) place[Symbol.dispose]();
endFaults();
watch.stop();
console.log(`
seed              ${seed}
time              ${((performance.now() - started) / 60_000).toFixed(1)} minutes, ${sizes.length} periods
work              ${total.done} done, ${total.refused} refused
resident memory   ${(sizes[0]! / MiB).toFixed(0)} MiB after the first period, ${(sizes.at(-1)! / MiB).toFixed(0)} MiB after the last
growth            ${judged ? `${(grown / MiB).toFixed(1)} MiB in the second half, of ${tolerance / MiB} MiB allowed` : "not judged in so short a time"}
${turnLines(later)}; while idle ${idle.toFixed(0)} ms
failures          ${failures.length}`);
process.exitCode = failures.length === 0 ? 0 : 1;
