// Tests several simultaneous downloads into one cache: by this process, by others, and by Python's huggingface_hub.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test, vi } from "vitest";
import { ModelCache } from "../../lib/hub/cache.js";
import { dist } from "../support/dist.js";
import { cacheDir, config, fetchFrom, inCache, startHub, weights } from "./tiny.js";

const hash = createHash("sha256").update(weights).digest("hex");
const blob = () => inCache("blobs", hash);

/** Downloads in a process of its own. `ended` resolves to its output; `kill` ends it. */
function downloadElsewhere(hubUrl: string): { pid: number; ended: Promise<string>; kill: () => void } {
  const module = pathToFileURL(dist("hub/pretrained-folder.js")).href;
  const program = `
    import { pretrainedFolder } from ${JSON.stringify(module)};
    const options = ${JSON.stringify({ hubUrl, cacheDir, offline: false })};
    console.log(await pretrainedFolder("owner/tiny", options).catch((error) => error.message));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  const ended = new Promise<string>((resolve) => child.on("close", () => resolve(output.trim())));
  return { pid: child.pid!, ended, kill: () => child.kill("SIGKILL") };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    if (i > 1000) throw new Error("it did not come to that within 20 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Returns every file, link and folder of the cache with the time of its last change. */
const stateOfCache = () =>
  readdirSync(cacheDir, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const { ino, mtimeMs, ctimeMs } = lstatSync(path.join(cacheDir, name));
      return [name, ino, mtimeMs, ctimeMs];
    });

test("two simultaneous downloads of a file leave the right content, and request it once", async () => {
  await using hub = await startHub();
  hub.parts = 20;
  const folders = await Promise.all([fetchFrom(hub), fetchFrom(hub)]);
  expect(folders[0]).toBe(folders[1]);
  expect(readFileSync(path.join(folders[0], "model.safetensors"))).toEqual(weights);
  expect(readdirSync(inCache("blobs")).filter((name) => name.endsWith(".incomplete"))).toEqual([]);
  expect(hub.downloads.filter((request) => request.includes("safetensors"))).toHaveLength(1);
});

test("a download that begins as another one ends does not repeat it", async () => {
  await using hub = await startHub();
  // The other one runs from the question whether the file is there until the file is claimed.
  let asked = 0;
  // eslint-disable-next-line @typescript-eslint/unbound-method
  const { hasBlob } = ModelCache.prototype;
  const spy = vi.spyOn(ModelCache.prototype, "hasBlob");
  spy.mockImplementation(async function (this: ModelCache, file) {
    const was = await hasBlob.call(this, file);
    // The first question is for the room on the disk.
    if (file.path !== "model.safetensors" || asked++ !== 1) return was;
    await fetchFrom(hub);
    return false;
  });
  try {
    await fetchFrom(hub);
  } finally {
    spy.mockRestore();
  }
  expect(hub.downloads.filter((request) => request.includes("safetensors"))).toHaveLength(1);
});

test("three processes", async () => {
  await using hub = await startHub();
  hub.parts = 50;
  const children = [1, 2, 3].map(() => downloadElsewhere(hub.url));
  const folder = inCache("snapshots", hub.commit);
  expect(await Promise.all(children.map(({ ended }) => ended))).toEqual([folder, folder, folder]);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  expect(readdirSync(inCache("blobs")).filter((name) => name.endsWith(".incomplete"))).toEqual([]);
});

test("a waiting download takes over from a process that was killed, and continues where it was", async () => {
  await using hub = await startHub();
  hub.parts = 100;
  const child = downloadElsewhere(hub.url);
  await until(() => readdirSync(cacheDir, { recursive: true, encoding: "utf8" }).some(grown));
  const fetching = fetchFrom(hub);
  await new Promise((resolve) => setTimeout(resolve, 100));
  child.kill();
  await child.ended;
  hub.parts = 1;
  expect(readFileSync(path.join(await fetching, "model.safetensors"))).toEqual(weights);
  expect(hub.downloads.at(-1)).toMatch(/safetensors bytes=[1-9]\d+-299999$/);
  expect(readdirSync(inCache("blobs"))).toHaveLength(2);

  function grown(name: string): boolean {
    return name.includes(hash) && name.endsWith(".incomplete") && statSync(path.join(cacheDir, name)).size > 9999;
  }
});

test("a file that Python's huggingface_hub is downloading stays unchanged", async () => {
  await using hub = await startHub();
  mkdirSync(inCache("blobs"), { recursive: true });
  // The names that its old and new versions use.
  const theirs = [`${hash}.incomplete`, `${hash}.0a1b2c3d.incomplete`].map((name) => inCache("blobs", name));
  for (const file of theirs) writeFileSync(file, "the first bytes");
  const folder = await fetchFrom(hub);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  for (const file of theirs) expect(readFileSync(file, "utf8")).toBe("the first bytes");
  // At the end it renames the file to the name of the complete file.
  writeFileSync(theirs[0]!, weights);
  renameSync(theirs[0]!, blob());
  expect(readFileSync(path.join(await fetchFrom(hub), "model.safetensors"))).toEqual(weights);
});

test("a blob of another size than the hub's is downloaded again", async () => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub);
  writeFileSync(blob(), Buffer.concat([weights, weights]));
  expect(await fetchFrom(hub)).toBe(folder);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
});

test("160 loads of a cached model at the same time change nothing in the cache", async () => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub);
  const before = stateOfCache();
  const loads = Array.from({ length: 160 }, async () => {
    const found = await fetchFrom(hub);
    return Buffer.concat([
      readFileSync(path.join(found, "config.json")),
      readFileSync(path.join(found, "model.safetensors")),
    ]);
  });
  const outcomes = await Promise.allSettled(loads);
  expect(outcomes.filter(({ status }) => status === "rejected")).toEqual([]);
  const whole = Buffer.concat([config, weights]);
  for (const outcome of outcomes) expect((outcome as PromiseFulfilledResult<Buffer>).value.equals(whole)).toBe(true);
  expect(stateOfCache()).toEqual(before);
  expect(folder).toBe(inCache("snapshots", hub.commit));
});

test("40 loads of a model that is not cached at the same time", async () => {
  await using hub = await startHub();
  hub.parts = 10;
  const folders = await Promise.all(Array.from({ length: 40 }, () => fetchFrom(hub)));
  expect(new Set(folders).size).toBe(1);
  expect(readFileSync(path.join(folders[0]!, "model.safetensors"))).toEqual(weights);
  expect(readdirSync(inCache("blobs")).sort()).toHaveLength(2);
});

test("a read-only cache", async (context) => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub);
  const root = process.getuid?.() === 0;
  if (process.platform === "win32") return context.skip("Windows has no such permissions");
  const names = ["", ...readdirSync(cacheDir, { recursive: true, encoding: "utf8" })];
  const folders = names.map((name) => path.join(cacheDir, name)).filter((name) => lstatSync(name).isDirectory());
  for (const name of folders) chmodSync(name, 0o555);
  try {
    // Root may write everywhere.
    if (root) process.seteuid!(65534);
    expect(() => writeFileSync(path.join(folder, "x"), "")).toThrow(/EACCES/);
    expect(await fetchFrom(hub)).toBe(folder);
    expect(await fetchFrom(hub, { revision: hub.commit })).toBe(folder);
    expect(await fetchFrom(hub, { offline: true })).toBe(folder);
  } finally {
    if (root) process.seteuid!(0);
    for (const name of folders) chmodSync(name, 0o755);
  }
});

test("a link to another blob is replaced", async () => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub);
  const [other] = readdirSync(inCache("blobs")).filter((name) => name !== hash);
  renameSync(path.join(folder, "config.json"), path.join(folder, "model.safetensors"));
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(config);
  await fetchFrom(hub);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  expect(readFileSync(path.join(folder, "config.json"))).toEqual(readFileSync(inCache("blobs", other!)));
});

test("a snapshot with files in place of links, as on Windows, is accepted", async () => {
  await using hub = await startHub();
  const folder = inCache("snapshots", hub.commit);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "config.json"), config);
  writeFileSync(path.join(folder, "model.safetensors"), weights);
  expect(await fetchFrom(hub)).toBe(folder);
  expect(hub.downloads).toEqual([]);
});
