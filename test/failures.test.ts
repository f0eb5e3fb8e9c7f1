/**
 * An error is reported to the readers of the tensors that the failed operation should have written, and to no others.
 */
import { expect, test } from "vitest";
import { device as deviceOf } from "../lib/core/device.js";
import { Graph } from "../lib/core/graph.js";
import { ops } from "../lib/core/native.js";
import { binaryKinds } from "../lib/core/native-kinds.js";
import { add, mul } from "../lib/ops/binary.js";
import { cacheWrite } from "../lib/ops/cache-write.js";
import { embedding } from "../lib/ops/embedding.js";
import { narrow, reshape } from "../lib/ops/views.js";
import { scope } from "../lib/core/scope.js";
import { full, ones, tensor, zeros } from "../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../lib/core/tensor.js";
import { noCuda } from "./support/cuda.js";
import { expectRejection } from "./support/errors.js";
import { describeUnless } from "./support/skip.js";
import { onEachDevice } from "./support/targets.js";

const ids = (...values: number[]): IntTensor => tensor(Int32Array.from(values));
/**
 * Returns a read whose outcome is examined later. Node.js does not report its rejection, although nobody waits for it
 * yet.
 */
function begun<T>(read: Promise<T>): Promise<T> {
  read.catch(() => undefined);
  return read;
}
const bad = (id: number): RegExp => new RegExp(`expected ids in \\[0, 3\\), got ${id} at position 0`);

onEachDevice(() => {
  test("results computed from a failed operation reject with its error, and everything else resolves", async () => {
    using table = ones([3, 2]);
    using before = add(table, 1);
    using failed = embedding(ids(7), table);
    using scaled = mul(failed, 2);
    using view = reshape(scaled, [2]);
    using after = add(table, 2);
    using both = add(after, view);
    const reads = [before, after, failed, scaled, view, both].map((x) => begun(x.data()));
    expect([...(await reads[0]!)]).toEqual(Array(6).fill(2));
    expect([...(await reads[1]!)]).toEqual(Array(6).fill(3));
    for (const read of reads.slice(2)) await expectRejection(read, "ERR_RANGE", bad(7));
    // The tensor stays damaged, and so do views and results that are made later.
    await expectRejection(failed.data(), "ERR_RANGE", bad(7));
    using part = narrow(failed, 1, 0, 1);
    await expectRejection(part.data(), "ERR_RANGE", bad(7));
    using later = add(part, 1);
    await expectRejection(later.data(), "ERR_RANGE", bad(7));
    expect([...(await before.data())]).toEqual(Array(6).fill(2));
  });

  test("requests that fail at the same time each get their own error", async () => {
    using table = ones([3, 2]);
    const outcomes = Array.from({ length: 400 }, (_, i) => {
      using out = embedding(ids(i % 4), table);
      using sum = add(out, i);
      return sum.data().then(
        (data) => data[0],
        (error: unknown) => (error as Error).message,
      );
    });
    expect(await Promise.all(outcomes)).toEqual(
      Array.from({ length: 400 }, (_, i) =>
        i % 4 < 3 ? 1 + i : "embedding_forward: expected ids in [0, 3), got 3 at position 0",
      ),
    );
    await deviceOf().synchronize();
  });

  test("reused memory never shows its earlier content", async () => {
    using table = ones([3, 256]);
    for (let i = 0; i < 20; i++) {
      full([1, 256], 42).dispose();
      using failed = embedding(ids(-1), table);
      using copy = failed.to("bf16");
      await expectRejection(copy.data(), "ERR_RANGE", bad(-1));
      await expectRejection(failed.data(), "ERR_RANGE", bad(-1));
    }
  });

  test("a tensor is intact again once all of it is written, not before", async () => {
    using table = ones([3, 2]);
    using out: FloatTensor = zeros([2, 2]);
    ops.embedding_forward({ out, ids: ids(1, 9), weight: table });
    await expectRejection(out.data(), "ERR_RANGE", /got 9 at position 1/);
    using row = narrow(out, 0, 0, 1);
    row.set([5, 5]);
    await expectRejection(out.data(), "ERR_RANGE", /got 9 at position 1/);
    ops.binary({ out, a: out, b: out, kind: binaryKinds.add });
    await expectRejection(out.data(), "ERR_RANGE", /got 9 at position 1/);
    out.set([1, 2, 3, 4]);
    expect([...(await out.data())]).toEqual([1, 2, 3, 4]);
    ops.embedding_forward({ out, ids: ids(9, 1), weight: table });
    ops.embedding_forward({ out, ids: ids(0, 1), weight: table });
    expect([...(await out.data())]).toEqual([1, 1, 1, 1]);
  });

  test("a tensor that is written in part, like a cache, keeps the damage; another cache has none", async () => {
    using cache = zeros([1, 4, 1, 2]);
    using other = zeros([1, 4, 1, 2]);
    using values = ones([1, 2, 1, 2]);
    cacheWrite(cache, values, ids(3));
    cacheWrite(other, values, ids(2));
    await expectRejection(cache.data(), "ERR_RANGE", /expected starts from 0 to 2, got 3/);
    cacheWrite(cache, values, ids(0));
    await expectRejection(cache.data(), "ERR_RANGE", /expected starts from 0 to 2, got 3/);
    expect([...(await other.data())]).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  test("synchronize() rejects once with a failure that nobody has read", async () => {
    // Reads the failures that earlier tests have left unread.
    for (let told = false; !told;)
      told = await deviceOf()
        .synchronize()
        .then(
          () => true,
          () => false,
        );
    using table = ones([3, 2]);
    using unread = embedding(ids(4), table);
    using read = embedding(ids(5), table);
    await expectRejection(read.data(), "ERR_RANGE", bad(5));
    await expectRejection(deviceOf().synchronize(), "ERR_RANGE", bad(4));
    await deviceOf().synchronize();
    await expectRejection(unread.data(), "ERR_RANGE", bad(4));
  });

  test("a graph fails for the launch whose data were wrong, and the next launch is intact", async () => {
    const device = deviceOf();
    using index = ids(0);
    using table = ones([3, 2]);
    using out = zeros([1, 2]);
    using state = zeros([1, 2]);
    const body = (): void =>
      scope(() => {
        const row = embedding(index, table);
        ops.copy({ out, inp: add(row, state) });
      });
    using graph = Graph.capture(device, body);
    const innocent = add(table, 1);
    const launch = (id: number): Promise<Float32Array> => {
      index.set([id]);
      graph.launch();
      return begun(out.data());
    };
    const reads = [launch(1), launch(5), launch(2), launch(6), innocent.data()] as const;
    innocent.dispose();
    expect([...(await reads[0])]).toEqual([1, 1]);
    await expectRejection(reads[1], "ERR_RANGE", bad(5));
    expect([...(await reads[2])]).toEqual([1, 1]);
    await expectRejection(reads[3], "ERR_RANGE", bad(6));
    expect([...(await reads[4])]).toEqual(Array(6).fill(2));
    // Damage from outside the graph damages its results, and repaired inputs repair them.
    ops.embedding_forward({ out: state, ids: ids(8), weight: table });
    await expectRejection(launch(0), "ERR_RANGE", bad(8));
    await expectRejection(launch(0), "ERR_RANGE", bad(8));
    state.set([1, 2]);
    expect([...(await launch(0))]).toEqual([2, 3]);
  });

  test("nothing is lost if thousands of operations run between two reads", async () => {
    using table = ones([3, 2]);
    using failed = embedding(ids(7), table);
    for (let i = 0; i < 20_000; i++) add(table, i).dispose();
    await deviceOf()
      .synchronize()
      .catch(() => undefined);
    await expectRejection(failed.data(), "ERR_RANGE", bad(7));
    expect([...(await table.data())]).toEqual(Array(6).fill(1));
  });
});

describeUnless(noCuda)("between devices", () => {
  test.for([
    ["cpu", "cuda:0"],
    ["cuda:0", "cpu"],
  ] as const)("damage goes along from %s to %s and back, and nothing else does", async ([from, to]) => {
    const table = ones([3, 2], { device: from });
    const failed = embedding(tensor(Int32Array.of(7), [1], { device: from }), table);
    const there = failed.to(to);
    const whole = table.to(to);
    const changed = add(there, 1);
    const back = changed.to(from);
    const results = [there, changed, back, failed];
    const reads = results.map((x) => begun(x.data()));
    const other = add(whole, 1);
    expect([...(await other.data())]).toEqual(Array(6).fill(2));
    for (const read of reads) await expectRejection(read, "ERR_RANGE", bad(7));
    // Both sides know of the failure by now.
    const again = failed.to(to);
    await expectRejection(again.data(), "ERR_RANGE", bad(7));
    for (const name of [from, to]) await deviceOf(name).synchronize();
    for (const x of [table, whole, other, again, ...results]) x.dispose();
  });
});
