/** Work that is interrupted, truncated or wrong, and must not affect anything else. */
import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert/strict";
import { once } from "node:events";
import { copyFile, cp, mkdir, rm, stat, truncate } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { add, embedding, empty, generateTokens, HeedError, ones, tensor, Trainer } from "heed";
import { hubName, startHub, startWorker, trainUntil } from "./usual.js";
import { formats, lessons, newStudent, pick, say, trainingSteps, type Work } from "./world.js";

const isHeedError =
  (...codes: string[]) =>
  (error: unknown): true => {
    ok(
      error instanceof HeedError && codes.includes(error.code),
      `expected ${codes.join(" or ")}, got ${String(error)}`,
    );
    return true;
  };

/** Interrupts a training. The next one continues from there. */
export const abortTraining: Work = (lane) => trainUntil(lane, 1 + lane.random.integer(trainingSteps));

export const abortGeneration: Work = async ({ place: { speaker, said }, random }) => {
  const control = new AbortController();
  const reason = new Error("no longer wanted");
  const last = random.integer(16);
  let count = 0;
  const onToken = (): void => {
    if (count++ === last) control.abort(reason);
  };
  const broken = generateTokens(speaker, [[1, 2], [3]], {
    ...{ maxTokens: 50, overflow: "slide" as const },
    ...{ signal: control.signal, onToken },
  });
  const [usual] = await Promise.all([say(speaker), rejects(broken, reason)]);
  deepStrictEqual(usual, said, "a fixed generation has changed");
};

/** Loads a file that has been truncated, or is truncated while it is read. */
export const loadTruncated: Work = async ({ place, folder, random }) => {
  const format = pick(random, formats);
  const cut = path.join(folder, "cut");
  await rm(cut, { recursive: true, force: true });
  await mkdir(cut, { recursive: true });
  const copy = path.join(cut, format);
  await cp(path.join(place.models, format), copy, { recursive: true });
  const weights = format === "folder" ? path.join(copy, "model.safetensors") : copy;
  const size = random.integer((await stat(weights)).size);
  const later = random.integer(2) === 1;
  if (!later) await truncate(weights, size);
  const loading = place.checkSaved(copy, format);
  if (later) await Promise.all([truncate(weights, size), loading.catch(isHeedError("ERR_FORMAT", "ERR_IO"))]);
  else await rejects(loading, isHeedError("ERR_FORMAT", "ERR_IO"));
  // The file is complete again, in the same place.
  await copyFile(path.join(place.models, path.relative(cut, weights)), weights);
  await place.checkSaved(copy, format);
};

/** Interrupts a download, or lets the hub do so; the next download succeeds. */
export const breakDownload: Work = async (lane) => {
  const { random, place } = lane;
  const { hub, options } = await startHub(lane);
  await using _ = hub;
  const size = hub.files.get("model.safetensors")!.content.length;
  if (random.integer(2)) {
    hub.cuts.push(random.integer(size));
    await place.checkSaved(hubName, "folder", options).catch(isHeedError("ERR_IO", "ERR_FORMAT"));
  } else {
    const control = new AbortController();
    const reason = new Error("no longer wanted");
    hub.parts = 5;
    const loading = place.checkSaved(hubName, "folder", { ...options, signal: control.signal });
    await Promise.all([
      sleep(random.integer(80)).then(() => control.abort(reason)),
      loading.catch((error: unknown) => strictEqual(error, reason)),
    ]);
  }
  await place.checkSaved(hubName, "folder", options);
};

/**
 * Ends a thread while reads are pending. It must have begun: files that Node.js has open while it loads modules stay
 * open when it ends a thread.
 */
export const terminateWorker: Work = async ({ place, random }) => {
  const worker = startWorker({ device: place.device.name, endless: true });
  await once(worker, "message");
  await sleep(random.integer(100));
  await worker.terminate();
};

/** Some operations fail among others; each reader is told only of failures that affect its own tensors. */
export const failSome: Work = async ({ place: { device }, random }) => {
  using table = ones([3, 8], { device });
  const reads = Array.from({ length: 30 }, async (_, i) => {
    const id = random.integer(4);
    using ids = tensor(Int32Array.of(id), [1], { device });
    using row = embedding(ids, table);
    using sum = add(row, i);
    const read = sum.data();
    if (id < 3) deepStrictEqual([...(await read)], Array(8).fill(1 + i));
    else await rejects(read, isHeedError("ERR_RANGE"));
  });
  await Promise.all(reads);
};

/** A step that fails changes nothing; a caller that catches its error may continue. */
export const trainOnBadTokens: Work = async ({ place, random }) => {
  using model = newStudent(place.device);
  using trainer = new Trainer({ model, data: lessons(random.integer(384)), batchSize: 8, steps: 60 });
  // An epoch contains the bad token.
  await rejects(trainer.train(), isHeedError("ERR_RANGE"));
  const before = await model.wte.weight.data();
  await rejects(trainer.train(), isHeedError("ERR_RANGE"));
  deepStrictEqual(await model.wte.weight.data(), before, "a failed step has changed the model");
};

/** Bytes of a tensor for which there may be too little memory. */
export const large = 512 * 2 ** 20;

/** Resolves when no limit of memory is on its way. */
let limited: Promise<unknown> = Promise.resolve();

/**
 * Lets work that wants much memory wait until a limit is set. What it took in between would be missing from the room that
 * the limit leaves, and V8 ends a process that has none.
 */
export function awaitLimit(change: Promise<unknown>): void {
  limited = change.catch(() => undefined);
}

/** Makes a large tensor, or one that is larger than all remaining memory, and reads it or not. */
export const wantMuch: Work = async ({ place: { device }, random }) => {
  const read = random.integer(2) === 1;
  await limited;
  using x = empty([read ? large : 16 * large], { dtype: "u8", device });
  if (read) await x.data();
};
