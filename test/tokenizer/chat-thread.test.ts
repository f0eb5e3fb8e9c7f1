/** Long conversations, which a thread renders: they have the text and the errors that they have at once. */
import { expect, test } from "vitest";
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
    expect(await threads.renderChat(template, conversation(count), {})).toBe(expected(count));
  const tools = Array.from({ length: 2000 }, (_, i) => ({ name: `tool${i}` }));
  const text = await threads.renderChat(template, conversation(1), { tools });
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
  expect(await threads.renderChat(template, conversation(3000), { variables })).toBe(expected(3000));
});

test("without a built thread, the calling one does the work", async () => {
  const own = new ChatTemplate(source, { eos_token: "</s>" });
  for (let i = 0; i < 2; i++) expect(await renderHere(own, conversation(3000), {})).toBe(expected(3000));
});

test("the event loop is not held", async () => {
  await expectNoPause(() => threads.renderChat(template, conversation(10_000), {}));
});
