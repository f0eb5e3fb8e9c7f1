import { expect, test } from "vitest";
import { KvCache } from "../../lib/nn/kv-cache.js";
import { device } from "../../lib/core/device.js";
import { padSequences } from "../../lib/ops/pad-sequences.js";

test("more sequences than a call takes arguments", async () => {
  const many = Array.from({ length: 200_000 }, (_, i) => [i]);
  many[7] = [1, 2];
  const { ids, lengths } = padSequences(many, { device: "cpu" });
  expect(ids.shape).toEqual([200_000, 2]);
  expect((await lengths.data())[7]).toBe(2);
  ids.dispose();
  lengths.dispose();
  const cache = new KvCache({ layers: 1, batch: 200_000, length: 2, heads: 1, headSize: 1, device: device("cpu") });
  cache.begin(2);
  cache.advance();
  expect(cache.lengths[199_999]).toBe(2);
  cache.dispose();
});
