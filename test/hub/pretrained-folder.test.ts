import { existsSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { pretrainedFolder } from "../../lib/hub/pretrained-folder.js";
import type { DownloadProgress, PretrainedOptions } from "../../lib/hub/pretrained-options.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { HubServer } from "./server.js";

let cacheDir = "";
beforeEach(() => {
  cacheDir = temporaryFolder();
});

const weights = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) ^ (i >> 8)));
const start = () =>
  HubServer.start({
    "config.json": { content: Buffer.from('{"model_type": "llama"}') },
    "model.safetensors": { content: weights, large: true },
    "README.md": { content: Buffer.from("not wanted") },
    "onnx/model.onnx": { content: Buffer.from("not wanted") },
  });
const fetchFrom = (hub: HubServer, options: PretrainedOptions = {}) =>
  pretrainedFolder("owner/tiny", { hubUrl: hub.url, cacheDir, offline: false, ...options });

test("a folder is returned unchanged", async () => {
  expect(await pretrainedFolder(cacheDir)).toBe(cacheDir);
});

test("downloads what a model needs into the shared cache's layout", async () => {
  await using hub = await start();
  const folder = await fetchFrom(hub);
  const model = path.join(cacheDir, "models--owner--tiny");
  expect(folder).toBe(path.join(model, "snapshots", hub.commit));
  expect(readdirSync(folder).sort()).toEqual(["config.json", "model.safetensors"]);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  expect(realpathSync(path.join(folder, "config.json"))).toContain(path.join(model, "blobs"));
  expect(readFileSync(path.join(model, "refs", "main"), "utf8")).toBe(hub.commit);
  expect(readdirSync(path.join(model, "blobs")).some((name) => name.endsWith(".incomplete"))).toBe(false);
});

test("downloads nothing twice, and only a new commit's changes", async () => {
  await using hub = await start();
  await fetchFrom(hub);
  hub.requests.length = 0;
  await fetchFrom(hub);
  expect(hub.requests.filter((request) => request.includes("/resolve/"))).toEqual([]);
  hub.commit = "b".repeat(40);
  hub.files.set("config.json", { content: Buffer.from("{}") });
  const folder = await fetchFrom(hub);
  expect(readFileSync(path.join(folder, "config.json"), "utf8")).toBe("{}");
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  expect(hub.requests.filter((request) => request.includes("resolve") && request.includes("safetensors"))).toEqual([]);
});

test("downloads the requested files, in folders too", async () => {
  await using hub = await start();
  const folder = await fetchFrom(hub, { files: (name) => name.endsWith(".onnx") });
  expect(readFileSync(path.join(folder, "onnx", "model.onnx"), "utf8")).toBe("not wanted");
  expect(existsSync(path.join(folder, "config.json"))).toBe(false);
});

test("downloads the additional files of sentence-transformers' models", async () => {
  await using hub = await start();
  const more = [
    ...["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"],
    ...["1_Pooling/config.json", "2_Pooling/config.json"],
  ];
  for (const name of [...more, "2_Dense/model.safetensors"]) hub.files.set(name, { content: Buffer.from("{}") });
  const folder = await fetchFrom(hub);
  for (const name of more) expect(readFileSync(path.join(folder, name), "utf8")).toBe("{}");
  expect(existsSync(path.join(folder, "2_Dense"))).toBe(false);
});

test("continues where a connection ended, within a call and in the next", async () => {
  await using hub = await start();
  hub.files.delete("config.json");
  hub.cuts.push(100_000);
  const folder = await fetchFrom(hub);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  const resumed = hub.requests.filter((request) => /bytes=[1-9]\d*-/.test(request));
  expect(resumed).toHaveLength(1);

  rmSync(cacheDir, { recursive: true });
  hub.cuts.push(50_000, 50_000, 50_000);
  await expectRejection(fetchFrom(hub), "ERR_IO", /expected to download revision main, got: /);
  hub.requests.length = 0;
  await fetchFrom(hub);
  expect(hub.requests.some((request) => request.endsWith("bytes=150000-299999"))).toBe(true);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
});

test("reports its progress", async () => {
  await using hub = await start();
  const progress: DownloadProgress[] = [];
  await fetchFrom(hub, { onProgress: (event) => progress.push(event) });
  const sizeInAll = weights.length + 23;
  const last = progress.at(-1)!;
  expect(last).toEqual({
    file: "model.safetensors",
    received: weights.length,
    size: weights.length,
    receivedInAll: sizeInAll,
    sizeInAll,
  });
  expect(progress.every((event, i) => i === 0 || event.receivedInAll >= progress[i - 1]!.receivedInAll)).toBe(true);
});

test("offline uses the cached files, and sends no request to the hub", async () => {
  await using hub = await start();
  await expectRejection(fetchFrom(hub, { offline: true }), "ERR_IO", /while offline, got none/);
  const folder = await fetchFrom(hub);
  hub.requests.length = 0;
  expect(await fetchFrom(hub, { offline: true })).toBe(folder);
  expect(await fetchFrom(hub, { offline: true, revision: hub.commit })).toBe(folder);
  await expectRejection(fetchFrom(hub, { offline: true, revision: "other" }), "ERR_IO", /revision other/);
  expect(hub.requests).toEqual([]);
});

test("an interrupted download is not available offline", async () => {
  await using hub = await start();
  hub.cuts.push(5, 5, 5);
  await expectRejection(fetchFrom(hub), "ERR_IO", /expected to download/);
  await expectRejection(fetchFrom(hub, { offline: true }), "ERR_IO", /while offline, got none/);
});

test("aborts with the reason", async () => {
  await using hub = await start();
  const controller = new AbortController();
  const reason = new Error("enough");
  const fetching = fetchFrom(hub, { signal: controller.signal, onProgress: () => controller.abort(reason) });
  await expect(fetching).rejects.toBe(reason);
  await expect(fetchFrom(hub, { signal: controller.signal })).rejects.toBe(reason);
});

describe("content that differs from the hub's information", () => {
  test("another content", async () => {
    await using hub = await start();
    hub.tamper = (entry) => ({ ...entry, oid: "c".repeat(40) });
    await expectRejection(fetchFrom(hub), "ERR_FORMAT", /config\.json: expected a file with hash c+, got/);
    hub.tamper = (entry) => entry;
    await fetchFrom(hub);
  });

  test("an incomplete file of something else", async () => {
    await using hub = await start();
    hub.cuts.push(1, 1, 1);
    await expectRejection(fetchFrom(hub), "ERR_IO", /expected to download/);
    const blobs = path.join(cacheDir, "models--owner--tiny", "blobs");
    const [incomplete] = readdirSync(blobs).filter((name) => name.endsWith(".incomplete"));
    writeFileSync(path.join(blobs, incomplete!), "x".repeat(5));
    await expectRejection(fetchFrom(hub), "ERR_FORMAT", /expected a file with hash/);
    await fetchFrom(hub);
  });

  test.each([
    ["a hash that is none", { oid: "../../x", lfs: undefined }],
    ["no hash", { oid: undefined, lfs: undefined }],
  ])("%s", async (_, change) => {
    await using hub = await start();
    hub.tamper = (entry) => ({ ...entry, ...change });
    await expectRejection(fetchFrom(hub), "ERR_FORMAT", /expected a hash/);
  });

  test("a file outside the folder is refused", async () => {
    await using hub = await start();
    hub.tamper = (entry) => ({ ...entry, path: `../${String(entry.path)}` });
    await expectRejection(fetchFrom(hub, { files: () => true }), "ERR_IO", /expected files of a model, got none/);
  });

  test("an invalid commit", async () => {
    await using hub = await start();
    hub.commit = "../x";
    await expectRejection(fetchFrom(hub), "ERR_FORMAT", /expected a commit/);
  });
});

test("a model that does not exist, a hub that cannot be reached, invalid names", async () => {
  await using hub = await start();
  hub.answer = () => 404;
  await expectRejection(fetchFrom(hub), "ERR_IO", /Repository not found/);
  await expectRejection(
    fetchFrom(hub, { hubUrl: "http://127.0.0.1:1" }),
    "ERR_IO",
    /owner\/tiny: expected to download/,
  );
  for (const name of ["", "a/b/c", "../no-such-folder", "./no-such-folder", "/no-such-folder"])
    await expectRejection(pretrainedFolder(name), "ERR_IO");
  await expectRejection(pretrainedFolder(3 as unknown as string), "ERR_ARGUMENT");
  await expectRejection(fetchFrom(hub, { revision: "../x" }), "ERR_ARGUMENT");
});
