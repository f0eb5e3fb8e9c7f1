import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import { readShardedSafetensors } from "../../lib/formats/sharded-safetensors.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";

const folder = sharedFolder();
const index = path.join(folder, "model.safetensors.index.json");
const [one, two] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const writeIndex = (value: unknown) => writeFileSync(index, JSON.stringify(value));

beforeEach(async () => {
  await writeSafetensors(path.join(folder, one), [
    { name: "a", dtype: "F32", shape: [2], data: Float32Array.of(1, 2) },
    { name: "b", dtype: "BF16", shape: [2, 1], data: Uint16Array.of(0x3f80, 0xc000) },
  ]);
  await writeSafetensors(path.join(folder, two), [
    { name: "c", dtype: "F16", shape: [1], data: Uint16Array.of(0x4200) },
    { name: "d", dtype: "I64", shape: [1], data: BigInt64Array.of(3n) },
  ]);
  writeIndex({ metadata: { total_size: 22 }, weight_map: { a: one, b: one, c: two, d: two } });
});

test("reads tensors from the files they are in", async () => {
  await using shards = await readShardedSafetensors(index);
  expect([...shards.tensors.keys()]).toEqual(["a", "b", "c", "d"]);
  expect(shards.tensors.get("b")).toMatchObject({ dtype: "BF16", shape: [2, 1] });
  expect(await shards.readFloats("a")).toEqual(Float32Array.of(1, 2));
  expect(await shards.readFloats("b")).toEqual(Float32Array.of(1, -2));
  expect(await shards.readFloats("c")).toEqual(Float32Array.of(3));
  expect(await shards.read("d", new BigInt64Array(1))).toEqual(BigInt64Array.of(3n));
  await expectRejection(shards.readFloats("d"), "ERR_FORMAT", /got I64/);
  await expectRejection(shards.readFloats("e"), "ERR_ARGUMENT");
  await expectRejection(shards.read("toString"), "ERR_ARGUMENT");
});

test.each<[string, unknown, RegExp]>([
  ["no map", {}, /weight_map/],
  ["a map that is a list", { weight_map: [] }, /weight_map/],
  ["a file that is no name", { weight_map: { a: 1 } }, /name of a file in the same folder/],
  ["a file elsewhere", { weight_map: { a: "../model.safetensors" } }, /name of a file in the same folder/],
  ["an absolute file", { weight_map: { a: "/etc/passwd" } }, /name of a file in the same folder/],
  ["a hidden file", { weight_map: { a: ".." } }, /name of a file in the same folder/],
  [
    "a tensor that is not in its file",
    { weight_map: { a: two, b: one, c: two, d: two } },
    /tensor "a", which the index places/,
  ],
  ["a tensor that the index lacks", { weight_map: { a: one, c: two, d: two } }, /got "b"/],
])("refuses %s", async (_, value, message) => {
  writeIndex(value);
  await expectRejection(readShardedSafetensors(index), "ERR_FORMAT", message);
});

test("refuses files that are missing or damaged", async () => {
  writeFileSync(path.join(folder, two), "no");
  await expectRejection(readShardedSafetensors(index), "ERR_FORMAT", /model-00002/);
  rmSync(path.join(folder, two));
  await expectRejection(readShardedSafetensors(index), "ERR_IO", /model-00002/);
  rmSync(index);
  await expectRejection(readShardedSafetensors(index), "ERR_IO", /index\.json/);
});
