/** Pairs of answers: all forms of prompts and answers, compared with what TRL makes of the same records. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { readPairs } from "../../lib/data/read-pairs.js";
import { dataRecord } from "../../lib/data/records.js";
import { writeShards } from "../../lib/data/write-shards.js";
import { TokenShards } from "../../lib/data/token-shards.js";
import { preferencePair } from "../../lib/data/preference-pair.js";
import { loadTokenizer } from "../../lib/pretrained/load-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { TrainingExample } from "../../lib/data/pack-examples.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { noReference } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { trl, trlLines } from "../support/trl.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";

const chatTemplate =
  "{% if tools %}{% for t in tools %}<tool>{{ t.name }};{% endfor %}{% endif %}" +
  "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}";
const config = { bos_token: "<|begin|>", eos_token: "<|end|>" };
const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config, chatTemplate });
const message = (role: string) => (content: string) => ({ role, content });
const [system, user, assistant] = [message("system"), message("user"), message("assistant")];

const whole = ({ ids }: TrainingExample): string => tokenizer.decode(ids, { special: true });
const counted = ({ ids, mask }: TrainingExample): string =>
  tokenizer.decode(
    [...ids].filter((_, i) => mask[i] === 1),
    { special: true },
  );
/** Returns the text of both answers, with what counts in brackets behind it. */
async function shown(record: unknown): Promise<string[]> {
  const pair = await preferencePair(dataRecord(record) as Parameters<typeof preferencePair>[0], tokenizer);
  return [pair.chosen, pair.rejected].map((example) => `${whole(example)} [${counted(example)}]`);
}

describe("prompts and answers", () => {
  const asked = ["u:Hi;a:yes; [yes;]", "u:Hi;a:no; [no;]"];
  const conversations = { chosen: [user("Hi"), assistant("yes")], rejected: [user("Hi"), assistant("no")] };
  const answers = { chosen: [assistant("yes")], rejected: [assistant("no")] };
  test.each([
    ["a text beside whole conversations", { prompt: "Hi", ...conversations }],
    ["a text that differs from the conversations' question", { prompt: "Other", ...conversations }],
    ["messages that the conversations repeat", { prompt: [user("Hi")], ...conversations }],
    ["no prompt", conversations],
    ["null", { prompt: null, ...conversations }],
    ["an empty text", { prompt: "", ...conversations }],
    ["no messages", { prompt: [], ...conversations }],
    ["a text and answers of messages", { prompt: "Hi", ...answers }],
    ["messages and answers of messages", { prompt: [user("Hi")], ...answers }],
    ["messages and answers of text", { prompt: [user("Hi")], chosen: "yes", rejected: "no" }],
    ["a text, and one whole conversation", { prompt: "Hi", chosen: conversations.chosen, rejected: answers.rejected }],
  ])("%s", async (_, record) => {
    expect(await shown(record)).toEqual(asked);
  });

  test("system messages come before the question", async () => {
    const expected = ["s:Be kind;u:Hi;a:yes; [yes;]", "s:Be kind;u:Hi;a:no; [no;]"];
    const both = (...first: object[]) => ({
      chosen: [...first, assistant("yes")],
      rejected: [...first, assistant("no")],
    });
    expect(await shown({ prompt: "Hi", ...both(system("Be kind"), user("Hi")) })).toEqual(expected);
    expect(await shown({ prompt: "Hi", ...both(system("Be kind")) })).toEqual(expected);
    expect(await shown({ prompt: [system("Be kind"), user("Hi")], ...both(user("Hi")) })).toEqual(expected);
  });

  test("of a longer conversation, what follows the common beginning counts", async () => {
    const before = [user("Hi"), assistant("Hello"), user("2+2")];
    const record = { chosen: [...before, assistant("4")], rejected: [...before, assistant("5")] };
    const expected = ["u:Hi;a:Hello;u:2+2;a:4; [4;]", "u:Hi;a:Hello;u:2+2;a:5; [5;]"];
    expect(await shown(record)).toEqual(expected);
    expect(await shown({ prompt: before, chosen: [assistant("4")], rejected: [assistant("5")] })).toEqual(expected);
    // An answer that is as the one before it is an answer of its own.
    const twice = { prompt: [user("Hi"), assistant("a")], chosen: [assistant("a")], rejected: [assistant("b")] };
    expect(await shown(twice)).toEqual(["u:Hi;a:a;a:a; [a;]", "u:Hi;a:a;a:b; [b;]"]);
  });

  test("of texts without a prompt, what follows the common beginning counts", async () => {
    expect(await shown({ chosen: "Hi. Yes!", rejected: "Hi. No." })).toEqual([
      "<|begin|>Hi. Yes!<|end|> [ Yes!<|end|>]",
      "<|begin|>Hi. No.<|end|> [ No.<|end|>]",
    ]);
    // At least a character of each is left.
    expect(await shown({ chosen: "ab", rejected: "abc" })).toEqual([
      "<|begin|>ab<|end|> [b<|end|>]",
      "<|begin|>abc<|end|> [bc<|end|>]",
    ]);
    // A prompt ends where it says, and a text prompt does not take part in texts.
    expect(await shown({ prompt: "H", chosen: "i yes", rejected: "i no" })).toEqual([
      "<|begin|>Hi yes<|end|> [i yes<|end|>]",
      "<|begin|>Hi no<|end|> [i no<|end|>]",
    ]);
    const [smile, grin] = ["😀", "😁"];
    expect((await shown({ chosen: `a${smile}`, rejected: `a${grin}` }))[0]).toBe(
      `<|begin|>a${smile}<|end|> [${smile}<|end|>]`,
    );
  });

  test("tools are part of the prompt", async () => {
    const record = { prompt: "Hi", ...conversations, tools: [{ name: "find" }] };
    expect(await shown(record)).toEqual(["<tool>find;u:Hi;a:yes; [yes;]", "<tool>find;u:Hi;a:no; [no;]"]);
    const folder = temporaryFolder();
    const file = path.join(folder, "pairs.jsonl");
    writeFileSync(file, `${JSON.stringify(record)}\n`);
    const out = path.join(folder, "shards");
    await writeShards(file, { out, tokenizer, threads: 0 });
    using shards = TokenShards.open(out);
    const [pair] = await readPairs(file, tokenizer);
    expect(whole(pair!.chosen)).toContain("<tool>find;");
    expect(shards.pair(0)).toEqual(pair);
    expectError(() => dataRecord({ ...record, tools: "find" }), "ERR_FORMAT", /tools to be an array/);
  });

  test.each([
    [{ prompt: 3, chosen: "a", rejected: "b" }, /expected prompt to be a text or messages, got 3/],
    [{ prompt: "Hi", chosen: "a", rejected: [assistant("b")] }, /chosen to be an array with messages/],
    [{ chosen: [assistant("a")], rejected: "b" }, /rejected to be an array with messages/],
    [{ prompt: [{ role: "user" }], ...answers }, /prompt\[0\] to have a role and a content/],
    [{ prompt: 3, ...answers }, /prompt to be an array with messages, got 3/],
    [{ prompt: "Hi", chosen: [], rejected: [] }, /chosen to be an array with messages/],
    [{ chosen: [{ ...assistant("a"), weight: 0.5 }], rejected: [assistant("b")] }, /weight to be 0 or 1, got 0.5/],
  ])("%j is refused", (record, pattern) => {
    expectError(() => dataRecord(record), "ERR_FORMAT", pattern);
  });

  test("two answers without a difference in their messages are kept", async () => {
    const same = [user("Hi"), assistant("yes")];
    expect(await shown({ chosen: same, rejected: same })).toEqual(["u:Hi;a:yes; [yes;]", "u:Hi;a:yes; [yes;]"]);
    await expectRejection(shown({ chosen: [user("Hi")], rejected: [user("No")] }), "ERR_ARGUMENT", /of the assistant/);
  });
});

describeUnless(!trl && noReference)("beside TRL", () => {
  interface Prepared {
    prompt_ids: number[];
    chosen_ids: number[];
    rejected_ids: number[];
  }
  const cases = "dpo-sigmoid dpo-no-prompt dpo-chat dpo-chat-no-prompt dpo-chat-qwen3 dpo-boundary".split(" ");
  test.each(cases)("%s", async (name) => {
    const own = await loadTokenizer(path.join(trl!, "tokenizer"));
    const prepared = trlLines<Prepared>(name, "prepared");
    expect(prepared.length).toBeGreaterThan(3);
    for (const [i, record] of trlLines(name, "data").entries()) {
      const pair = await preferencePair(dataRecord(record) as Parameters<typeof preferencePair>[0], own);
      const { prompt_ids: prompt, chosen_ids: chosen, rejected_ids: rejected } = prepared[i]!;
      for (const [example, answer] of [
        [pair.chosen, chosen],
        [pair.rejected, rejected],
      ] as const) {
        expect([...example.ids]).toEqual([...prompt, ...answer]);
        expect([...example.mask]).toEqual([...prompt.map(() => 0), ...answer.map(() => 1)]);
      }
    }
  });
});
