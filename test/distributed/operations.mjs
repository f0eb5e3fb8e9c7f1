// Checks every collective operation in several processes, on the device that HEED_TEST_DEVICE names. It writes "ok" in the
// first.
import assert from "node:assert/strict";

const heed = await import(process.env.HEED_INDEX);
heed.setThreads(1);
const collectives = await heed.Collectives.open({ timeout: 30 });
const { rank, size } = collectives;
const device = heed.device(process.env.HEED_TEST_DEVICE ?? "cpu");
const values = async (tensor) => [...(await tensor.data())];
const ranks = [...Array(size).keys()];
const sum = (of) => ranks.reduce((total, r) => total + of(r), 0);
assert.equal(await heed.Collectives.open(), collectives);
assert.ok(heed.launched().size === size && collectives.version.length > 0);

// Numbers of the host, in f64.
assert.deepEqual([...(await collectives.sum(Float64Array.of(rank + 0.1, 1e-17)))], [sum((r) => r + 0.1), size * 1e-17]);
assert.deepEqual([...(await collectives.sum(Float64Array.of(1 - rank, rank), { reduction: "max" }))], [1, size - 1]);
assert.deepEqual([...(await collectives.sum(new Float64Array(0)))], []);
const gathered = await collectives.gather(Float64Array.of(rank, -rank).subarray(0, 1));
assert.deepEqual(
  gathered.map(([value]) => value),
  ranks,
);
const texts = await collectives.gatherJson({ text: "ä".repeat(3 * rank), rank });
assert.deepEqual(
  texts,
  ranks.map((r) => ({ text: "ä".repeat(3 * r), rank: r })),
);
await collectives.barrier();

// Tensors of awkward sizes, in the order of the queue: what is enqueued before counts, what follows sees the result.
for (const length of [1, 31, 10_007]) {
  const inputs = ranks.map((r) => Float32Array.from({ length }, (_, i) => ((i * 7 + r * 13) % 64) / 8 - 3));
  const own = (r) => inputs[r];
  const x = heed.tensor(own(rank), [length], { device });
  const doubled = heed.mul(x, 2);
  const work = collectives.allReduce(doubled);
  const meanwhile = heed.add(x, 1); // the queue goes on
  work.wait();
  work.wait();
  const after = heed.mul(doubled, 0.5);
  const expected = own(0).map((_, i) => sum((r) => own(r)[i]));
  assert.deepEqual(await values(after), [...expected]);
  assert.deepEqual(await values(meanwhile), [...own(rank).map((value) => value + 1)]);

  const bf16 = x.to("bf16");
  collectives.allReduce(bf16).wait();
  assert.deepEqual(await values(bf16), [...expected], "these sums are exact in bf16");
  const most = x.to("f32");
  const copy = heed.mul(x, 1);
  collectives.allReduce(copy, { reduction: "max" }).wait();
  assert.deepEqual(await values(copy), [...own(0).map((_, i) => Math.max(...ranks.map((r) => own(r)[i])))]);
  most.dispose();

  const root = size - 1;
  collectives.broadcast(copy, { root: 0 }).wait();
  const from = heed.tensor(own(rank), [length], { device });
  collectives.broadcast(from, { root }).wait();
  assert.deepEqual(await values(from), [...own(root)]);

  const all = heed.zeros([size * length], { device });
  collectives.allGather(all, x).wait();
  assert.deepEqual(
    await values(all),
    ranks.flatMap((r) => [...own(r)]),
  );
  const part = heed.zeros([length], { device });
  collectives.reduceScatter(part, all).wait();
  assert.deepEqual(await values(part), [...own(rank).map((value) => size * value)]);
}

// bf16 is rounded after each addition, to nearest even; NaN stays.
const tie = heed.tensor([256, rank === 0 ? 1 : 0, NaN], [3], { device }).to("bf16");
collectives.allReduce(tie).wait();
const [a, b, c] = await values(tie);
assert.equal(a, 256 * size);
assert.equal(b, 1);
assert.ok(Number.isNaN(c));

// Several operations are on their way at once, and those on numbers do not wait for those on tensors.
const many = Array.from({ length: 20 }, (_, i) => heed.tensor([i + rank], [1], { device }));
const works = many.map((tensor) => collectives.allReduce(tensor));
await collectives.barrier();
for (const work of works.toReversed()) work.wait();
for (const [i, tensor] of many.entries())
  assert.equal(
    await tensor.item(),
    sum((r) => i + r),
  );

// A result that nobody waits for does not spoil memory that is used again.
for (let i = 0; i < 5; i++) collectives.allReduce(heed.ones([1000], { device }));

// What has failed in the queue damages the result in this process.
const table = heed.ones([4, 2], { device });
const bad = heed.embedding(heed.tensor([rank === 0 ? 9 : 1], [1], { device, dtype: "i32" }), table);
const reduced = bad.to("f32");
const flat = heed.reshape(heed.mul(reduced, 1), [2]);
collectives.allReduce(flat).wait();
if (rank === 0) await assert.rejects(flat.data(), { code: "ERR_RANGE" });
else await flat.data();

// Bad input is refused before anything is sent.
const code = (code) => (error) => error instanceof heed.HeedError && error.code === code;
assert.throws(() => collectives.allReduce([1]), code("ERR_ARGUMENT"));
assert.throws(() => collectives.allReduce(heed.tensor([1], [1], { device, dtype: "i32" })), code("ERR_DTYPE"));
assert.throws(() => collectives.allReduce(heed.transpose(heed.ones([2, 3], { device }))), code("ERR_SHAPE"));
assert.throws(() => collectives.allReduce(table, { reduction: "mean" }), code("ERR_ARGUMENT"));
assert.throws(() => collectives.broadcast(table, { root: size }), code("ERR_RANGE"));
assert.throws(() => collectives.allGather(table, table), code("ERR_SHAPE"));
assert.throws(
  () => collectives.reduceScatter(heed.ones([1], { device }), heed.ones([7], { device })),
  code("ERR_SHAPE"),
);

await collectives.barrier();
if (rank === 0) console.log("ok");
assert.ok(collectives.close());
assert.throws(() => collectives.allReduce(table), code("ERR_DISTRIBUTED"));
await assert.rejects(collectives.barrier(), code("ERR_DISTRIBUTED"));
