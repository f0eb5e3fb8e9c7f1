/** Adapters and models that come and go under load, and failures of the engine itself. */
import { afterEach, expect, test, vi } from "vitest";
import path from "node:path";
import { activeAdapter, addAdapter, adapterNames, lorasOf, removeAdapter } from "../../lib/adapters/adapters.js";
import { unloadAdapter } from "../../lib/adapters/adapter-uses.js";
import { Engine } from "../../lib/engine/engine.js";
import { PageTable } from "../../lib/engine/page-table.js";
import { Scheduler } from "../../lib/engine/scheduler.js";
import { WeightsWatch } from "../../lib/engine/weights-watch.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { Linear } from "../../lib/nn/linear.js";
import { loadAdapter, saveAdapter } from "../../lib/pretrained/peft.js";
import { shakeAdapter } from "../adapters/support.js";
import { smallGpt, someTokens } from "../generate/models.js";
import { chatModel, start } from "../server/support.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { collectGarbage } from "../support/gc.js";
import { begun, engineFor } from "./support.js";

afterEach(() => void vi.restoreAllMocks());

const prompt = someTokens(9, 3);
const settings = { temperature: 0, maxTokens: 12 };

/** Adds an adapter whose weights are one of two versions. */
function add(model: CausalDecoder, version: number, name = "a"): void {
  addAdapter(model, { name, rank: 3, seed: 7 + 3 * version, active: false });
  shakeAdapter(model, name);
}

test("an adapter that is loaded again under its name has no request fail", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const engine = engineFor(model, { pageSize: 4 });
  const known: string[] = [];
  for (const version of [0, 1]) {
    add(model, version);
    known.push((await engine.generate({ tokens: prompt, ...settings, adapter: "a" })).tokens.join());
    await unloadAdapter(model, "a");
  }
  expect(known[0]).not.toBe(known[1]);
  add(model, 0);
  let ended = false;
  let refused = 0;
  const seen = new Set<string>();
  const client = async (): Promise<void> => {
    while (!ended) {
      let answer;
      try {
        answer = engine.generate({ tokens: prompt, ...settings, adapter: "a" });
      } catch (error) {
        // While it is being unloaded, the call says so.
        expect(error).toMatchObject({ code: "ERR_ARGUMENT" });
        refused++;
        await new Promise(setImmediate);
        continue;
      }
      const tokens = (await answer).tokens.join();
      expect(known).toContain(tokens);
      seen.add(tokens);
    }
  };
  const clients = Array.from({ length: 5 }, client);
  for (let i = 1; i <= 30; i++) {
    await new Promise((resolve) => setTimeout(resolve, i % 4));
    await unloadAdapter(model, "a");
    add(model, i % 2);
  }
  ended = true;
  await Promise.all(clients);
  expect(seen.size).toBe(2);
  expect(refused).toBeLessThan(1e6);
});

/** Saves both versions of the adapter in folders. */
async function savedVersions(model: CausalDecoder): Promise<string[]> {
  const root = temporaryFolder();
  const folders = [0, 1].map((version) => path.join(root, String(version)));
  for (const [version, folder] of folders.entries()) {
    add(model, version);
    await saveAdapter(folder, model, { name: "a" });
    removeAdapter(model, "a");
  }
  return folders;
}

const replacing = { name: "a", active: false, replace: true };

test("an adapter that is replaced has no request refused, and each has one version", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const engine = engineFor(model, { pageSize: 4 });
  const folders = await savedVersions(model);
  const ask = async () => (await engine.generate({ tokens: prompt, ...settings, adapter: "a" })).tokens.join();
  const known: string[] = [];
  for (const folder of folders) {
    // The first one replaces nothing.
    await loadAdapter(folder, model, replacing);
    known.push(await ask());
  }
  expect(known[0]).not.toBe(known[1]);
  let ended = false;
  const seen = new Map<string, number>();
  const client = async (): Promise<void> => {
    while (!ended) {
      const answer = await ask();
      expect(known).toContain(answer);
      seen.set(answer, (seen.get(answer) ?? 0) + 1);
    }
  };
  const clients = Array.from({ length: 5 }, client);
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, i % 4));
    await loadAdapter(folders[i % 2]!, model, replacing);
    expect(adapterNames(model)).toEqual(["a"]);
    expect(engine.adapters).toEqual(["a"]);
  }
  ended = true;
  await Promise.all(clients);
  expect(seen.size).toBe(2);
  expect(await ask()).toBe(known[1]);
  await unloadAdapter(model, "a");
  expect(adapterNames(model)).toEqual([]);
});

test("requests that run when their adapter is replaced end with it, and its memory is freed then", async () => {
  using model = smallGpt("cpu", { contextLength: 1024 });
  await using engine = new Engine(model, { pageSize: 4 });
  const folders = await savedVersions(model);
  const request = { tokens: prompt, ...settings, maxTokens: 800, adapter: "a" };
  const ask = async () => (await engine.generate(request)).tokens;
  const plain = (await engine.generate({ ...request, adapter: null })).tokens;
  await loadAdapter(folders[1]!, model, replacing);
  const next = await ask();
  await loadAdapter(folders[0]!, model, replacing);
  const old = await ask();
  const parameters = [...lorasOf(model, "a").values()].flatMap(({ lora }) => lora.parameters());
  const running = await begun(engine.generate(request));
  const other = await begun(engine.generate({ ...request, adapter: null }));
  await loadAdapter(folders[1]!, model, replacing);
  const late = ask();
  expect(parameters.some(({ disposed }) => disposed)).toBe(false);
  expect((await running.result).tokens).toEqual(old);
  expect(parameters.every(({ disposed }) => disposed)).toBe(true);
  expect(await late).toEqual(next);
  expect((await other.result).tokens).toEqual(plain);
  expect(await ask()).toEqual(next);
  // One that nobody uses is freed at once.
  const unused = [...lorasOf(model, "a").values()].flatMap(({ lora }) => lora.parameters());
  await loadAdapter(folders[0]!, model, replacing);
  expect(unused.every(({ disposed }) => disposed)).toBe(true);
  await unloadAdapter(model, "a");
});

test("the new version may change other layers than the old one", async () => {
  using model = smallGpt("cpu", { contextLength: 1024 });
  await using engine = new Engine(model, { pageSize: 4 });
  const root = temporaryFolder();
  for (const target of ["c_attn", "mlp"]) {
    addAdapter(model, { name: "a", rank: 3, targets: [target], active: false });
    shakeAdapter(model, "a");
    await saveAdapter(path.join(root, target), model, { name: "a" });
    removeAdapter(model, "a");
  }
  const request = { tokens: prompt, ...settings, maxTokens: 800, adapter: "a" };
  await loadAdapter(path.join(root, "c_attn"), model, replacing);
  const { tokens } = await engine.generate(request);
  const running = await begun(engine.generate(request));
  await loadAdapter(path.join(root, "mlp"), model, replacing);
  const replaced = await engine.generate(request);
  expect((await running.result).tokens).toEqual(tokens);
  expect(replaced.tokens).not.toEqual(tokens);
  const layers = () => [...model.modules()].filter(([, layer]) => layer instanceof Linear && layer.adapter !== null);
  expect(layers().every(([name]) => name.includes("mlp"))).toBe(true);
  await unloadAdapter(model, "a");
  expect(layers()).toEqual([]);
});

test("an adapter stays if it cannot be replaced", async () => {
  using model = smallGpt("cpu", { contextLength: 1024 });
  await using engine = new Engine(model, { pageSize: 4 });
  const [first, second] = await savedVersions(model);
  await loadAdapter(first!, model, replacing);
  const request = { tokens: prompt, ...settings, adapter: "a" };
  const { tokens } = await engine.generate(request);
  await expectRejection(loadAdapter(path.join(first!, "none"), model, replacing), "ERR_IO", /ENOENT/);
  await expectRejection(loadAdapter(second!, model, { ...replacing, replace: false }), "ERR_ARGUMENT", /a new name/);
  await expectRejection(loadAdapter(second!, model, { ...replacing, replace: 1 as never }), "ERR_ARGUMENT", /replace/);
  const running = await begun(engine.generate({ ...request, maxTokens: 800 }));
  const leaving = unloadAdapter(model, "a");
  await expectRejection(loadAdapter(second!, model, replacing), "ERR_BUSY", /is being unloaded/);
  await expectRejection(unloadAdapter(model, "a"), "ERR_BUSY", /is being unloaded/);
  expect(adapterNames(model)).toEqual(["a"]);
  expect((await running.result).tokens.slice(0, tokens.length)).toEqual(tokens);
  await leaving;
  expect(adapterNames(model)).toEqual([]);
  await loadAdapter(first!, model, replacing);
  expect((await engine.generate(request)).tokens).toEqual(tokens);
});

test("a version that replaces the active adapter is active", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const folders = await savedVersions(model);
  await using engine = new Engine(model, { pageSize: 4 });
  const ask = async (adapter?: string) => (await engine.generate({ tokens: prompt, ...settings, ...(adapter && { adapter }) })).tokens; // prettier-ignore
  await loadAdapter(folders[1]!, model, { name: "a" });
  const next = await ask("a");
  await loadAdapter(folders[0]!, model, { name: "a", replace: true });
  const old = await ask();
  expect(old).not.toEqual(next);
  await loadAdapter(folders[1]!, model, replacing);
  expect(activeAdapter(model)).toBe("a");
  expect(await ask()).toEqual(next);
  expect(adapterNames(model)).toEqual(["a"]);
});

test("a name that is taken again at once stands for the new adapter", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const engine = engineFor(model, { pageSize: 4 });
  const ask = async () => (await engine.generate({ tokens: prompt, ...settings, adapter: "a" })).tokens;
  add(model, 0);
  const old = await ask();
  const plain = begun(engine.generate({ tokens: prompt, ...settings, maxTokens: 40, adapter: null }));
  await plain;
  const leaving = unloadAdapter(model, "a");
  await leaving;
  add(model, 1);
  const next = await ask();
  expect(next).not.toEqual(old);
  expect((await (await plain).result).tokens).toHaveLength(40);
  // The same with nothing else to do, and without the engine's having noticed.
  await unloadAdapter(model, "a");
  add(model, 0);
  expect(await Promise.all([ask(), ask()])).toEqual([old, old]);
});

test("what is accepted with an adapter keeps it, also while its prompt is read", async () => {
  using loaded = chatModel();
  add(loaded.model, 0);
  const engine = engineFor(loaded.model, { tokenizer: loaded.tokenizer });
  const request = { messages: [{ role: "user", content: "Why?" }], ...settings, adapter: "a" };
  const { text } = await engine.generate(request);
  const reading = engine.generate({ ...request, n: 2 }).then(({ choices }) => choices);
  const accepted = engine.generate(request);
  const leaving = unloadAdapter(loaded.model, "a");
  expectError(() => engine.generate(request), "ERR_ARGUMENT", /got "a"/);
  expect((await accepted).text).toBe(text);
  expect((await reading).map((choice) => choice.text)).toEqual([text, text]);
  await leaving;
  expect(adapterNames(loaded.model)).toEqual([]);
});

test("a text that nobody reads keeps no adapter", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const engine = engineFor(model);
  add(model, 0);
  const ask = () => engine.generate({ tokens: prompt, ...settings, maxTokens: 20, adapter: "a" });
  const expected = (await ask()).tokens;
  const never = ask();
  const slow = ask()[Symbol.asyncIterator]();
  const first = await slow.next();
  await unloadAdapter(model, "a");
  // Its tokens have been computed, and can be read later.
  const tokens = [...first.value!.tokens];
  for (let event = await slow.next(); !event.done; event = await slow.next()) tokens.push(...event.value.tokens);
  expect(tokens).toEqual(expected);
  await expectRejection(Promise.resolve(never), "ERR_ARGUMENT", /got "a"/);
  const failing = engine.generate({ tokens: Array(100).fill(1) as number[], ...settings, adapter: null });
  await failing.catch(() => undefined);
});

test("a request that fails before it joins keeps no adapter", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  add(model, 0);
  const engine = engineFor(model, { maxQueue: 0 });
  const bad = { adapter: "a", ...settings };
  await engine.generate({ ...bad, tokens: [1e6] }).catch(() => undefined);
  await engine.generate({ ...bad, tokens: [1], n: 3, signal: AbortSignal.abort() }).catch(() => undefined);
  await engine.generate({ ...bad, tokens: [1] }).catch(() => undefined);
  await unloadAdapter(model, "a");
  expect(adapterNames(model)).toEqual([]);
});

test("close() waits for a replacement and for what runs", async () => {
  const [old, next] = [smallGpt("cpu", { contextLength: 64 }), smallGpt("cpu", { contextLength: 64 })];
  using _ = old;
  using __ = next;
  // What tests before this one left behind is not to be freed while it runs.
  await collectGarbage();
  const before = old.device.memory().live;
  const engine = new Engine(old, { pageSize: 4, maxSequences: 1 });
  const ask = () => engine.generate({ tokens: prompt, ...settings, maxTokens: 30 });
  const running = await begun(ask());
  const waiting = ask().then(({ tokens }) => tokens);
  await new Promise(setImmediate);
  const order: string[] = [];
  const replacing = engine.replace(next).then(() => order.push("replaced"));
  const closing = Promise.all([engine.close(), engine.close()]).then(() => order.push("closed"));
  await expectRejection(Promise.resolve(ask()), "ERR_BUSY", /closed/);
  expect((await running.result).tokens).toHaveLength(30);
  expect(await waiting).toHaveLength(30);
  await Promise.all([replacing, closing]);
  expect(order).toEqual(["replaced", "closed"]);
  expect(old.device.memory().live).toBe(before);
});

test("a replacement that fails leaves nothing paused", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  using next = smallGpt("cpu", { contextLength: 64 });
  const engine = engineFor(model);
  const ask = async () => (await engine.generate({ tokens: prompt, ...settings })).tokens;
  const tokens = await ask();
  const running = await begun(engine.generate({ tokens: prompt, ...settings, maxTokens: 30 }));
  vi.spyOn(WeightsWatch.prototype, "note").mockImplementationOnce(() => {
    throw new Error("no weights");
  });
  const replacing = engine.replace(next);
  const waiting = ask();
  await expect(replacing).rejects.toThrow("no weights");
  expect((await running.result).tokens).toHaveLength(30);
  expect(await waiting).toEqual(tokens);
  // Another one may follow.
  await engine.replace(next);
  expect(await ask()).toHaveLength(12);
});

test("an engine disposed while it replaces a model says so and holds no memory", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  using next = smallGpt("cpu", { contextLength: 64 });
  await collectGarbage();
  const before = model.device.memory().live;
  const engine = new Engine(model);
  const running = await begun(engine.generate({ tokens: prompt, ...settings, maxTokens: 30 }));
  const replacing = engine.replace(next);
  engine.dispose();
  await expectRejection(running.result, "ERR_DISPOSED");
  await expectRejection(replacing, "ERR_DISPOSED");
  expect(model.device.memory().live).toBe(before);
});

test("what the loop throws fails the requests, and the engine goes on", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const engine = engineFor(model, { maxSequences: 2 });
  const ask = async () => (await engine.generate({ tokens: prompt, ...settings })).tokens;
  const tokens = await ask();
  vi.spyOn(Scheduler.prototype, "next").mockImplementationOnce(() => {
    throw new Error("out of order");
  });
  const outcomes = await Promise.allSettled([ask(), ask(), ask()]);
  for (const outcome of outcomes)
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ERR_INTERNAL" } });
  expect(await ask()).toEqual(tokens);
});

test("an engine that cannot go on says so to every request", async () => {
  using model = smallGpt("cpu", { contextLength: 64 });
  const engine = new Engine(model, { maxSequences: 1 });
  const ask = () => engine.generate({ tokens: prompt, ...settings, maxTokens: 30 });
  expect((await ask()).tokens).toHaveLength(30);
  vi.spyOn(Scheduler.prototype, "next").mockImplementation(() => {
    throw new Error("out of order");
  });
  vi.spyOn(Scheduler.prototype, "restart").mockImplementation(() => {
    throw new Error("beyond repair");
  });
  const outcomes = await Promise.allSettled([ask(), ask(), engine.score({ tokens: prompt })]);
  for (const outcome of outcomes)
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ERR_INTERNAL" } });
  await expectRejection(Promise.resolve(ask()), "ERR_INTERNAL", /cannot go on.+beyond repair/);
  await expectRejection(engine.score({ tokens: prompt }), "ERR_INTERNAL", /cannot go on/);
  vi.restoreAllMocks();
  await engine.close();
});

test("a table of more pages than a call has arguments is cleared", () => {
  const pages = 300_000;
  const table = new PageTable(pages, 1);
  for (let i = 0; i < pages; i++) {
    const page = table.allocate()!;
    table.register([i], [page], 0);
    table.release(page);
  }
  table.clear();
  expect([table.available, table.find([5], 1)]).toEqual([pages, []]);
});

test("/ready says that all steps fail, and that they do no longer", async () => {
  const { url, post } = await start({ models: { tiny: chatModel() } });
  const ready = async () => (await fetch(`${url}/ready`)).status;
  const ask = async () => (await post("/v1/completions", { prompt: "a", max_tokens: 2 })).status;
  expect([await ready(), await ask(), await ready()]).toEqual([200, 200, 200]);
  // One failure alone says nothing: the server tries again.
  const enqueued = vi.spyOn(Scheduler.prototype, "enqueued").mockImplementationOnce(() => {
    throw new Error("a cosmic ray");
  });
  expect([await ask(), await ready()]).toEqual([500, 200]);
  enqueued.mockImplementation(() => {
    throw new Error("no device");
  });
  expect(await ask()).toBe(500);
  expect([await ready(), await ready()]).toEqual([503, 503]);
  const { error } = (await (await fetch(`${url}/ready`)).json()) as { error: { code: string } };
  expect(error.code).toBe("not_ready");
  enqueued.mockRestore();
  expect([await ready(), await ask(), await ready()]).toEqual([200, 200, 200]);
});
