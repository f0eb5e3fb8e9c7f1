/** Data sets of the hub, by name. */
import { existsSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { readRecords } from "../../lib/data/read-records.js";
import { datasetFolder } from "../../lib/hub/dataset-folder.js";
import { HubServer } from "../hub/server.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

const line = (text: string): string => `${JSON.stringify({ text })}\n`;

test("a data set's files are downloaded once and read; others are left", async () => {
  await using hub = await HubServer.start({
    "README.md": { content: Buffer.from("# A data set") },
    "dataset_info.json": { content: Buffer.from("{}") },
    "data/train.jsonl.gz": { content: gzipSync(line("a") + line("b")), large: true },
    "data/test.jsonl": { content: Buffer.from(line("c")) },
    "data/image.png": { content: Buffer.from([1]) },
  });
  hub.dataset = true;
  const cacheDir = temporaryFolder();
  const options = { cacheDir, hubUrl: hub.url };
  const read = async (input: string, more: object = {}): Promise<string[]> => {
    const texts: string[] = [];
    for await (const record of readRecords(input, { hub: { ...options, ...more } }))
      texts.push(Object.values(record).join());
    return texts;
  };
  expect(await read("hf:owner/tiny/data/train*")).toEqual(["a", "b"]);
  expect(hub.downloads).toHaveLength(1);
  expect(await read("owner/tiny")).toEqual(["c", "a", "b"]);
  expect(hub.downloads).toHaveLength(2);
  const folder = await datasetFolder("owner/tiny", options);
  expect(folder).toBe(path.join(cacheDir, "datasets--owner--tiny/snapshots", hub.commit));
  expect(["README.md", "dataset_info.json", "data/image.png"].some((name) => existsSync(path.join(folder, name)))).toBe(
    false,
  );
  expect(await read("owner/tiny", { offline: true })).toEqual(["c", "a", "b"]);
  expect(await read("hf:owner/tiny", { revision: hub.commit })).toEqual(["c", "a", "b"]);
  await expectRejection(read("hf:owner/tiny/*.csv"), "ERR_IO", /owner\/tiny: expected files of a data set, got none/);
  await expectRejection(read("owner/none"), "ERR_IO", /owner\/none.+no file or folder of this name either/);
  await expectRejection(datasetFolder("a/b/c", options), "ERR_ARGUMENT", /expected the name of a data set/);
  await expectRejection(datasetFolder("a/b", { revision: "../a" }), "ERR_ARGUMENT", /branch, tag or commit/);
});
