// Tests bodies that do not have the size that the hub announced, and disks without room for them.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { expectRejection } from "../support/errors.js";
import { fetchFrom, inCache, startHub, weights } from "./tiny.js";

beforeEach(() => {
  vi.stubEnv("HF_HUB_DOWNLOAD_TIMEOUT", "5");
});
afterEach(() => {
  vi.unstubAllEnvs();
});

test.each(["short", "long"] as const)("a body that is too %s is an error, and is not kept", async (spoilt) => {
  await using hub = await startHub();
  // The last byte never comes, whatever is requested.
  hub.spoilt = spoilt;
  await expectRejection(
    fetchFrom(hub),
    "ERR_FORMAT",
    spoilt === "short"
      ? /expected 300000 bytes from the hub, got 299999/
      : /expected 300000 bytes from the hub, got more/,
  );
  // Only the configuration is there.
  expect(readdirSync(inCache("blobs"))).toHaveLength(1);
  expect(existsSync(inCache("refs", "main"))).toBe(false);
  hub.spoilt = null;
  const folder = await fetchFrom(hub);
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
});

test("a file that ends early, or continues too long, in the middle of a resumed download", async () => {
  await using hub = await startHub();
  for (const spoilt of ["short", "long"] as const) {
    hub.files.delete("config.json");
    hub.cuts.push(100_000, 100_000, 50_000);
    await expectRejection(fetchFrom(hub), "ERR_IO", /expected to download/);
    hub.spoilt = spoilt;
    await expectRejection(fetchFrom(hub), "ERR_FORMAT", /expected 300000 bytes from the hub/);
    expect(readdirSync(inCache("blobs"))).toEqual([]);
    hub.spoilt = null;
  }
});

test("a disk without room for a file is detected before any of it arrives", async () => {
  await using hub = await startHub();
  hub.tamper = (entry) => ({ ...entry, size: entry.lfs ? 2 ** 52 : entry.size });
  await expectRejection(
    fetchFrom(hub),
    "ERR_IO",
    /owner\/tiny: expected \d{16} bytes free in .*blobs for the download, got \d+/,
  );
  expect(hub.downloads).toEqual([]);
});

test.each([-1, 0.5, 2 ** 60, "1", null])("an invalid size: %j", async (size) => {
  await using hub = await startHub();
  hub.tamper = (entry) => ({ ...entry, size });
  await expectRejection(fetchFrom(hub), "ERR_FORMAT", /expected the file's size from the hub, got/);
});
