/** Compares the examples of long conversations with those of the definition: the text and the tokens up to each answer. */
import fc from "fast-check";
import { expect } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { ChatMessage } from "../../lib/tokenizer/chat-template.js";
import { type AnsweredText, answeredTextsSlowly } from "../../lib/data/chat-answers.js";
import { rangesWithin } from "../../lib/tokenizer/jinja/ranges.js";
import { chatExamples } from "../../lib/data/chat-examples.js";
import type { TrainingExample } from "../../lib/data/pack-examples.js";
import {
  anyText,
  byteLevelJson,
  byteLevelTokenizer,
  spacedJson,
  spacedTokenizer,
  wordPieceJson,
  wordPieceTokenizer,
} from "../support/random-tokenizers.js";
import { fuzz } from "./fuzz.js";

/** Returns the examples by the definition: a token counts if it is not among those of the text before the answer. */
async function slowly(tokenizer: HuggingFaceTokenizer, messages: ChatMessage[]): Promise<TrainingExample[]> {
  const template = tokenizer.chatTemplate!;
  const turns = messages.flatMap(({ role }, i) => (role === "assistant" ? [i] : []));
  const texts = answeredTextsSlowly(
    (some, addGenerationPrompt) => template.render(some, { addGenerationPrompt }),
    messages,
    turns,
  );
  const example = async ({ text, messages: count, answers }: AnsweredText): Promise<TrainingExample> => {
    const { untrusted } = template.renderText(messages.slice(0, count), { addGenerationPrompt: false });
    const encode = (length: number, rest: string): Promise<Int32Array> =>
      tokenizer.encodeRenderedAsync({
        text: text.slice(0, length) + rest,
        untrusted: rangesWithin(untrusted, 0, length),
      });
    const ids = await encode(text.length, "");
    const before = async (length: number, rest = ""): Promise<number> => {
      if (length === text.length && rest === "") return ids.length;
      const own = await encode(length, rest);
      const differs = own.findIndex((id, i) => id !== ids[i]);
      return differs < 0 ? own.length : differs;
    };
    const mask = new Uint8Array(ids.length);
    for (const { prompt, end } of answers) mask.fill(1, await before(prompt.common, prompt.rest), await before(end));
    return { ids, mask };
  };
  return Promise.all(texts.map(example));
}

const content = fc.constantFrom(
  ..."{{ m.content }};{{ m.content | trim }};{{ m.content.split('</s>')[-1] }};{{- m.content -}}".split(";"),
);
const around = fc.constantFrom(
  ...["<|e|>", "<s>", "\n", " ", "\n\n", "{{ m.role }}: ", "</s>", ":", "", "e", "{{ loop.index0 % 2 }}"],
);
/** Fields of a message that depend on its place in the conversation. */
const placed = fc.constantFrom(
  ...["{{ loop.index }}", "{% if loop.last %}<tool>{% endif %}", "{% if not loop.first %}\n{% endif %}"],
  ...["{% if m.role == 'assistant' and loop.last %}<think>{% endif %}", "{{ messages | length }}"],
  "{% if loop.index0 > 0 and messages[loop.index0 - 1].role == m.role %}again{% endif %}",
  "{% if m.role == 'user' and messages[loop.index0 + 1] is defined %}?{% endif %}",
);
const prompt = fc.constantFrom("assistant: ", "<|e|>", "<s><think>\n", "", "\n", "[{{ messages | length }}]");
const tail = fc.constantFrom("", "", "{% else %}</s>", "{% else %}\n");
const head = fc.constantFrom(
  ...["", "<s>", "{{ messages[0].content }}\n", "{% if messages[-1].role == 'user' %}!{% endif %}"],
);
const template = fc
  .tuple(head, around, fc.oneof({ weight: 3, arbitrary: fc.constant("") }, { weight: 1, arbitrary: placed }), around)
  .chain((parts) => fc.tuple(fc.constant(parts), content, around, prompt, tail))
  .map(
    ([[before, left, special, right], shown, close, opens, closes]) =>
      `${before}{% for m in messages %}${left}${special}${right}${shown}${close}{% endfor %}` +
      `{% if add_generation_prompt %}${opens}${closes}{% endif %}`,
  );
const role = (name: string, least: number, most: number) =>
  fc.array(fc.constant(name), { minLength: least, maxLength: most });
const turn = fc
  .tuple(
    role("user", 1, 1),
    fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, role("tool", 0, 2)),
    role("assistant", 1, 2),
  )
  .map(([asked, called, answers]) => [...asked, ...called.flatMap((tool) => ["assistant", tool]), ...answers]);
const messages = fc
  .tuple(role("system", 0, 1), fc.array(turn, { minLength: 2, maxLength: 9 }), role("user", 0, 1))
  .map(([first, turns, last]) => [...first, ...turns.flat(), ...last])
  .chain((roles) => fc.tuple(...roles.map((name) => anyText.map((text) => ({ role: name, content: text })))));
const tokenizer = fc.oneof(
  byteLevelTokenizer().map((choices) => byteLevelJson(choices) as object),
  spacedTokenizer().map((choices) => spacedJson(choices) as object),
  wordPieceTokenizer.map((choices) => wordPieceJson(choices) as object),
);

fuzz(
  "examples of conversations",
  fc.tuple(tokenizer, template, messages),
  { ci: 60, nightly: 20_000 },
  async ([json, chatTemplate, given]) => {
    const own = new HuggingFaceTokenizer(json, { chatTemplate });
    let expected: TrainingExample[];
    try {
      expected = await slowly(own, given);
    } catch (error) {
      if (!(error instanceof HeedError)) throw error;
      await expect(chatExamples(own, given)).rejects.toThrow(error.message);
      return;
    }
    expect(await chatExamples(own, given)).toEqual(expected);
  },
);
