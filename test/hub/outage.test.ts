// Tests what the cache provides without the hub, and that it does not treat an incomplete model as complete.
import { mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { asking } from "../../lib/hub/request.js";
import { expectRejection } from "../support/errors.js";
import type { HubServer } from "./server.js";
import { config, fetchFrom, inCache, startHub, weights } from "./tiny.js";

beforeEach(() => {
  vi.stubEnv("HF_HUB_ETAG_TIMEOUT", "0.3");
  vi.stubEnv("HF_HUB_DOWNLOAD_TIMEOUT", "0.3");
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const unreachable = { hubUrl: "http://127.0.0.1:1" };
const ways: [string, (hub: HubServer) => { hubUrl?: string }][] = [
  ["refuses connections", () => unreachable],
  ...[500, 502, 503, 504, 429].map((status): (typeof ways)[number] => [
    `answers ${status}`,
    (hub) => {
      hub.answer = () => status;
      return {};
    },
  ]),
  [
    "does not answer",
    (hub) => {
      hub.answer = () => null;
      return {};
    },
  ],
];

describe.each(ways)("a hub that %s", (_, breakDown) => {
  test("is served from the cache", async () => {
    await using hub = await startHub();
    const folder = await fetchFrom(hub);
    expect(await fetchFrom(hub, breakDown(hub))).toBe(folder);
  });

  test("causes an error if the cache has nothing", async () => {
    await using hub = await startHub();
    await expectRejection(fetchFrom(hub, breakDown(hub)), "ERR_IO", /owner\/tiny: expected to download revision main/);
  });
});

test("a hub that breaks down between two files of a new commit", async () => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub);
  hub.commit = "b".repeat(40);
  hub.files.set("model.safetensors", { content: Buffer.from("new"), large: true });
  hub.answer = (pathname) => (pathname.endsWith("safetensors") ? 503 : 200);
  expect(await fetchFrom(hub)).toBe(folder);
  hub.answer = () => 200;
  const next = await fetchFrom(hub);
  expect(readFileSync(path.join(next, "model.safetensors"), "utf8")).toBe("new");
});

test("a connection that breaks is no outage, for which an older copy would do", async () => {
  await using hub = await startHub();
  await fetchFrom(hub);
  hub.commit = "b".repeat(40);
  hub.broken = 2;
  expect(path.basename(await fetchFrom(hub))).toBe(hub.commit);
  hub.commit = "c".repeat(40);
  hub.broken = Infinity;
  expect(path.basename(await fetchFrom(hub))).toBe("b".repeat(40));
});

test.each([401, 403, 404])("a hub that refuses with %i is believed", async (status) => {
  await using hub = await startHub();
  await fetchFrom(hub);
  hub.answer = () => status;
  await expectRejection(fetchFrom(hub), "ERR_IO", /expected to download revision main/);
});

test("a download that stalls is requested again, and then fails", async () => {
  await using hub = await startHub();
  hub.spoilt = "stalled";
  await expectRejection(fetchFrom(hub), "ERR_IO", /the hub was silent for 0\.3 s/);
  hub.spoilt = null;
  const folder = await fetchFrom(hub);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  expect(hub.downloads.at(-1)).toMatch(/bytes=299999-299999$/);
});

test("a request is abandoned even if its body does not notice", async () => {
  const request = { repo: "owner/tiny", revision: "main", hubUrl: "http://127.0.0.1:1", token: undefined };
  const never = () => new Promise<never>(() => undefined);
  await expect(asking({ ...request, signal: undefined }, 20, never)).rejects.toThrow("the hub was silent for 0.02 s");
  const controller = new AbortController();
  const asked = asking({ ...request, signal: controller.signal }, 10_000, never);
  const reason = new Error("enough");
  controller.abort(reason);
  await expect(asked).rejects.toBe(reason);
});

test("a whole commit is served without a request", async () => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub, { revision: hub.commit });
  hub.requests.length = 0;
  expect(await fetchFrom(hub, { revision: hub.commit })).toBe(folder);
  expect(await fetchFrom(hub, { revision: hub.commit, ...unreachable })).toBe(folder);
  expect(hub.requests).toEqual([]);
  // Other files of the commit are still fetched.
  await fetchFrom(hub, { revision: hub.commit, files: (name) => name === "README.md" });
  expect(readFileSync(path.join(folder, "README.md"), "utf8")).toBe("not wanted");
});

test.each(["1", "true", "TRUE", "yes", "Yes", "on", "ON"])("HF_HUB_OFFLINE=%s", async (value) => {
  await using hub = await startHub();
  const folder = await fetchFrom(hub);
  hub.requests.length = 0;
  vi.stubEnv("HF_HUB_OFFLINE", value);
  expect(await fetchFrom(hub, { offline: undefined as never })).toBe(folder);
  expect(hub.requests).toEqual([]);
});

test.each(["0", "false", "no", "off", ""])("HF_HUB_OFFLINE=%s asks the hub", async (value) => {
  await using hub = await startHub();
  vi.stubEnv("HF_HUB_OFFLINE", value);
  await fetchFrom(hub, { offline: undefined as never });
  expect(hub.requests).not.toEqual([]);
});

describe("an incomplete snapshot", () => {
  const offline = { offline: true };

  test("lacks a file", async () => {
    await using hub = await startHub();
    const folder = await fetchFrom(hub);
    unlinkSync(path.join(folder, "model.safetensors"));
    for (const revision of ["main", hub.commit])
      await expectRejection(
        fetchFrom(hub, { offline: true, revision }),
        "ERR_IO",
        /got one without model\.safetensors/,
      );
    await expectRejection(fetchFrom(hub, unreachable), "ERR_IO", /expected to download/);
    hub.requests.length = 0;
    expect(await fetchFrom(hub, { revision: hub.commit })).toBe(folder);
    expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  });

  test("lacks the end of a file", async () => {
    await using hub = await startHub();
    const folder = await fetchFrom(hub);
    writeFileSync(path.join(folder, "model.safetensors"), weights.subarray(1));
    await expectRejection(fetchFrom(hub, offline), "ERR_IO", /got one without model\.safetensors/);
    await fetchFrom(hub, { revision: hub.commit });
    expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  });

  test("lacks files that were not requested before", async () => {
    await using hub = await startHub();
    await fetchFrom(hub, { files: (name) => name === "config.json" });
    await expectRejection(fetchFrom(hub, offline), "ERR_IO", /got one without model\.safetensors/);
    await fetchFrom(hub, { offline: true, files: (name) => name === "config.json" });
  });

  test("comes from an interrupted download", async () => {
    await using hub = await startHub();
    hub.cuts.push(5000, 5000, 5000);
    hub.files.delete("config.json");
    await expectRejection(fetchFrom(hub), "ERR_IO", /expected to download/);
    mkdirSync(inCache("snapshots", hub.commit), { recursive: true });
    await expectRejection(fetchFrom(hub, { offline: true, revision: hub.commit }), "ERR_IO", /got one without model/);
  });

  // Python's huggingface_hub writes the reference first, and its older versions keep no listing.
  const byPython = (commit: string, files: Record<string, string | null>) => {
    mkdirSync(inCache("refs"), { recursive: true });
    writeFileSync(inCache("refs", "main"), commit);
    mkdirSync(inCache("blobs"), { recursive: true });
    mkdirSync(inCache("snapshots", commit), { recursive: true });
    for (const [name, content] of Object.entries(files)) {
      symlinkSync(`../../blobs/blob-of-${name}`, inCache("snapshots", commit, name));
      if (content !== null) writeFileSync(inCache("blobs", `blob-of-${name}`), content);
    }
  };
  const index = "model.safetensors.index.json";

  test.each<[Record<string, string | null>, string]>([
    [{}, "config\\.json"],
    [{ "config.json": "{}" }, "model\\.safetensors"],
    [{ "model.safetensors": "x" }, "config\\.json"],
    [{ "config.json": "{}", "model.safetensors": null }, "model\\.safetensors"],
    [{ "config.json": "{}", [index]: "{}" }, "model\\.safetensors"],
    [
      {
        "config.json": "{}",
        [index]: "{}",
        "model-00001-of-00003.safetensors": "x",
        "model-00003-of-00003.safetensors": "",
      },
      "model-00002-of-00003\\.safetensors",
    ],
  ])("of Python's: %j", async (files, missing) => {
    await using hub = await startHub();
    byPython(hub.commit, files);
    await expectRejection(fetchFrom(hub, offline), "ERR_IO", new RegExp(`while offline, got one without ${missing}`));
    await expectRejection(fetchFrom(hub, unreachable), "ERR_IO", /expected to download/);
    const folder = await fetchFrom(hub);
    expect(readFileSync(path.join(folder, "config.json"))).toEqual(config);
    expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  });

  test("a complete snapshot of Python's is used", async () => {
    await using hub = await startHub();
    const shards = { "model-00001-of-00002.safetensors": "x", "model-00002-of-00002.safetensors": "y" };
    byPython(hub.commit, { "config.json": "{}", [index]: "{}", ...shards });
    const folder = inCache("snapshots", hub.commit);
    expect(await fetchFrom(hub, offline)).toBe(folder);
    expect(await fetchFrom(hub, unreachable)).toBe(folder);
    expect(hub.requests).toEqual([]);
  });

  test("Python's listing shows what is missing; a spoilt listing is ignored", async () => {
    await using hub = await startHub();
    byPython(hub.commit, { "config.json": "{}", "model.safetensors": "x" });
    expect(await fetchFrom(hub, offline)).toBe(inCache("snapshots", hub.commit));
    const file = inCache("trees", `${hub.commit}.json`);
    mkdirSync(path.dirname(file));
    const entry = { size: 2, blob_id: "c".repeat(40) };
    writeFileSync(file, JSON.stringify({ format_version: 1, files: { "tokenizer.json": entry } }));
    await expectRejection(fetchFrom(hub, offline), "ERR_IO", /got one without tokenizer\.json/);
    for (const text of [
      "{",
      "null",
      '{"format_version": 2, "files": {}}',
      '{"format_version": 1, "files": {"config.json": 3}}',
    ]) {
      writeFileSync(file, text);
      expect(await fetchFrom(hub, offline)).toBe(inCache("snapshots", hub.commit));
    }
  });
});

test("the listing is the one that Python's huggingface_hub keeps", async () => {
  await using hub = await startHub();
  await fetchFrom(hub);
  const kept = JSON.parse(readFileSync(inCache("trees", `${hub.commit}.json`), "utf8")) as Record<string, unknown>;
  expect(kept).toEqual({
    format_version: 1,
    files: {
      "README.md": { size: 10, blob_id: expect.stringMatching(/^[0-9a-f]{40}$/) as string },
      "config.json": { size: config.length, blob_id: expect.stringMatching(/^[0-9a-f]{40}$/) as string },
      "model.safetensors": {
        size: weights.length,
        blob_id: expect.stringMatching(/^[0-9a-f]{40}$/) as string,
        lfs_sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        lfs_size: weights.length,
      },
      "onnx/model.onnx": { size: 10, blob_id: expect.stringMatching(/^[0-9a-f]{40}$/) as string },
    },
  });
  rmSync(inCache("trees"), { recursive: true });
  await fetchFrom(hub);
  expect(JSON.parse(readFileSync(inCache("trees", `${hub.commit}.json`), "utf8"))).toEqual(kept);
});
