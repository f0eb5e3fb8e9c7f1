/** Long conversations, which a thread renders: they have the text and the errors that they have at once. */
import { setMaxListeners } from "node:events";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { expect, test, vi } from "vitest";
import type * as chatTemplates from "../../lib/tokenizer/chat-template.js";
import type * as chatThreads from "../../lib/tokenizer/chat-thread.js";
import { renderChat as renderHere } from "../../lib/tokenizer/chat-thread.js";
import { ChatTemplate } from "../../lib/tokenizer/chat-template.js";
import { dist } from "../support/dist.js";
import { expectNoPause } from "../support/pauses.js";

// A thread runs built files.
const [built, threads] = (await Promise.all([
  import(dist("tokenizer/chat-template.js")),
  import(dist("tokenizer/chat-thread.js")),
])) as [typeof chatTemplates, typeof chatThreads];

const source =
  "{% for m in messages %}{% if m.role == 'fool' %}{{ raise_exception('no fools') }}{% endif %}" +
  "<|{{ m.role }}|>{{ m.content | trim }}{{ eos_token }}{% endfor %}{{ tools | tojson if tools }}";
const template = new built.ChatTemplate(source, { eos_token: "</s>" });
const conversation = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content: ` ${i} é ` }));
const expected = (count: number): string =>
  Array.from({ length: count }, (_, i) => `<|${i % 2 === 0 ? "user" : "assistant"}|>${i} é</s>`).join("");

test("the text is the same, however long", async () => {
  for (const count of [1, 5000])
    expect((await threads.renderChat(template, conversation(count), {})).text).toBe(expected(count));
  const tools = Array.from({ length: 2000 }, (_, i) => ({ name: `tool${i}` }));
  const { text } = await threads.renderChat(template, conversation(1), { tools });
  expect(text.slice(expected(1).length)).toBe(
    JSON.stringify(tools)
      .replaceAll(/([,:])"/g, '$1 "')
      .replaceAll(",{", ", {"),
  );
});

test("errors are the same", async () => {
  const wrong = [...conversation(3000), { role: "fool", content: "" }];
  const thrown = await threads.renderChat(template, wrong, {}).catch((error: unknown) => error);
  expect(thrown).toMatchObject({ code: "ERR_ARGUMENT", message: expect.stringContaining("no fools") as string });
});

test("what no other thread can have is rendered here", async () => {
  const variables = { own: () => "x" };
  expect((await threads.renderChat(template, conversation(3000), { variables })).text).toBe(expected(3000));
});

test("without a built thread, the calling one does the work", async () => {
  const own = new ChatTemplate(source, { eos_token: "</s>" });
  for (let i = 0; i < 2; i++) expect((await renderHere(own, conversation(3000), {})).text).toBe(expected(3000));
});

test("the event loop is not held", async () => {
  await expectNoPause(() => threads.renderChat(template, conversation(10_000), {}));
});

test("nor is it by one long message, or by a template that works hard for a short one", async () => {
  const long = [{ role: "user", content: " a<b>\n".repeat(600_000) }];
  const hard = new built.ChatTemplate("{% for i in range(100000) %}{{ i % 7 }}{% endfor %}{{ messages[0].content }}");
  const escaping = new built.ChatTemplate("{{ messages[0].content | tojson | length }}");
  await expectNoPause(async () => {
    expect((await threads.renderChat(escaping, long, {})).text).toMatch(/^\d+$/);
    expect((await threads.renderChat(hard, conversation(1), {})).text.length).toBe(100_005);
  });
});

/** Resolves to the threads that get orders while `body` runs, which gets the list as it grows. */
async function threadsOf(body: (used: Worker[]) => Promise<unknown>): Promise<Worker[]> {
  const post = vi.spyOn(Worker.prototype, "postMessage");
  const used = post.mock.contexts as Worker[];
  try {
    await body(used);
    return [...used];
  } finally {
    post.mockRestore();
  }
}

test("conversations that nobody waits for any more are not rendered", async () => {
  const ask = async (count: number, signal?: AbortSignal): Promise<string> =>
    (await threads.renderChat(template, conversation(count), {}, signal)).text;
  const start = performance.now();
  await ask(10_000);
  const once = performance.now() - start;
  const left = new AbortController();
  setMaxListeners(0, left.signal);
  const answered = ask(4000, AbortSignal.any([]));
  const orders = await threadsOf(async () => {
    const abandoned = Array.from({ length: 40 }, () => ask(10_000, left.signal));
    const reasons = Promise.allSettled(abandoned);
    await setImmediate();
    left.abort(new Error("left"));
    for (const result of await reasons)
      expect(result).toMatchObject({ status: "rejected", reason: { message: "left" } });
    const before = performance.now();
    expect(await ask(4001)).toBe(expected(4001));
    expect(performance.now() - before).toBeLessThan(8 * once + 1000);
  });
  expect(await answered).toBe(expected(4000));
  // One of those that were left may have begun.
  expect(orders.length).toBeLessThanOrEqual(2);
  await expect(ask(1, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
});

test("a conversation whose client leaves while it is rendered does not hold up the others for long", async () => {
  const endless = new built.ChatTemplate(
    "{% for m in messages %}{% for i in range(100000) %}{% endfor %}{% endfor %}{{ messages | length }}",
  );
  const left = new AbortController();
  const abandoned = threads.renderChat(endless, conversation(20_000), {}, left.signal);
  await new Promise((resolve) => setTimeout(resolve, 300));
  left.abort(new Error("left"));
  await expect(abandoned).rejects.toThrow("left");
  expect((await threads.renderChat(template, conversation(3000), {})).text).toBe(expected(3000));
});

test("a thread that was killed is started again, and the event loop is not held meanwhile", async () => {
  await expectNoPause(async () => {
    const killed = await threadsOf(async (used) => {
      const texts = [4000, 4001, 4002].map((count) =>
        threads.renderChat(template, conversation(count), {}).then(({ text }) => text),
      );
      await vi.waitFor(() => expect(used).not.toEqual([]));
      await used[0]!.terminate();
      expect(await Promise.all(texts)).toEqual([4000, 4001, 4002].map(expected));
    });
    expect(new Set(killed).size).toBeGreaterThan(1);
  });
});
