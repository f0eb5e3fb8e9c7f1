/** Conversations that take long to render: other plug-ins' calls hold the event loop no longer than the server does. */
import { expect, test } from "vitest";
import type * as library from "../../lib/index.js";
import type * as aiSdk from "../../lib/plugins/ai/index.js";
import type * as langChain from "../../lib/plugins/langchain/index.js";
import { dist } from "../support/dist.js";
import { expectNoPause } from "../support/pauses.js";

// A thread runs built files.
const [{ ByteTokenizer, GPT, HuggingFaceTokenizer, LanguageModel }, { heed }, { ChatHeed }] = (await Promise.all([
  import(dist("index.js")),
  import(dist("plugins/ai/index.js")),
  import(dist("plugins/langchain/index.js")),
])) as [typeof library, typeof aiSdk, typeof langChain];

/** Returns a model whose template takes a quarter of a second for any conversation. */
function slowModel(): library.LanguageModel {
  const { tokenizer: json } = new ByteTokenizer().toHuggingFace().toJSON() as { tokenizer: unknown };
  const chatTemplate =
    "{% for i in range(100000) %}{% set x = i * i + i * 7 %}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}";
  const tokenizer = new HuggingFaceTokenizer(json, { chatTemplate });
  const size = { vocabularySize: 260, contextLength: 64, layers: 1, heads: 1, width: 8, dropout: 0 };
  return new LanguageModel({ model: new GPT(size, { seed: 1 }), tokenizer });
}

test.for<[string, (model: library.LanguageModel, text: string) => PromiseLike<unknown>]>([
  ["the library", (model, content) => model.chat([{ role: "user", content }])],
  [
    "the AI SDK",
    (model, text) => heed(model).doGenerate({ prompt: [{ role: "user", content: [{ type: "text", text }] }] }),
  ],
  ["LangChain", (model, text) => new ChatHeed({ model }).invoke(text)],
])("a template that works hard does not hold the event loop: %s", async ([, ask]) => {
  using model = slowModel();
  await expectNoPause(async () => {
    expect(await ask(model, "Why?")).toBeDefined();
  });
});
