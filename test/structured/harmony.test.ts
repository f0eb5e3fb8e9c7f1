/** Answers in harmony, the form of gpt-oss: its channels are read, and follow tools and formats. */
import { expect, test } from "vitest";
import type { Expression } from "../../lib/structured/expression.js";
import { harmonyAnswers, HarmonyParser } from "../../lib/structured/harmony.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { atOnce } from "../../lib/util/turns.js";
import { chatEngine, messages, readWith, time, tools, weather, type Whole } from "./call-templates.js";
import { automatonOf, expressionOf } from "./support.js";

const template = "{{ tools }}<|start|>assistant<|channel|>analysis<|message|>";
const call = (name: string, given: string) =>
  `<|channel|>commentary to=functions.${name} <|constrain|>json<|message|>${given}`;

const written: [string, Whole][] = [
  ["<|channel|>final<|message|>Hello <b>.", { text: "Hello <b>.", reasoning: "", calls: [] }],
  [
    "<|channel|>analysis<|message|>Hm, 1 <|2.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
    { text: "Yes.", reasoning: "Hm, 1 <|2.", calls: [] },
  ],
  [
    `<|channel|>analysis<|message|>I look.<|end|><|start|>assistant${call("weather", weather.arguments)}<|call|>`,
    { text: "", reasoning: "I look.", calls: [weather] },
  ],
  [
    `<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant to=functions.time<|channel|>commentary json<|message|>{}<|call|><|start|>assistant${call("weather", weather.arguments)}`,
    { text: "Let me see.", reasoning: "", calls: [time, weather] },
  ],
  ["No format at all.", { text: "No format at all.", reasoning: "", calls: [] }],
  ["assist", { text: "assist", reasoning: "", calls: [] }],
];

test.each(written)("%j", (text, expected) => {
  expect(readWith(new HarmonyParser(), [text])).toEqual(expected);
  expect(readWith(new HarmonyParser(), Array.from(text))).toEqual(expected);
  expect(readWith(new HarmonyParser(), text.match(/[^]{1,5}/g)!)).toEqual(expected);
});

test("an answer that is cut anywhere shows no marks", () => {
  for (const [text, whole] of written)
    for (let length = 0; length < text.length; length++) {
      const given = text.slice(0, length);
      for (const pieces of [[given], Array.from(given)]) {
        const cut = readWith(new HarmonyParser(), pieces, true);
        expect(whole.text.startsWith(cut.text), `${given}: ${cut.text}`).toBe(true);
        expect(whole.reasoning.startsWith(cut.reasoning), `${given}: ${cut.reasoning}`).toBe(true);
        for (const [i, { name, arguments: written }] of cut.calls.entries())
          expect([whole.calls[i]!.name, whole.calls[i]!.arguments.startsWith(written)]).toEqual([name, true]);
      }
    }
});

test("the end of an answer that only looks like the beginning of a mark is kept", () => {
  const final = "<|channel|>final<|message|>";
  for (const text of ["1 <", "a <|", "b <|en", "<"])
    for (const pieces of [[final + text], Array.from(final + text)]) {
      expect(readWith(new HarmonyParser(), pieces).text).toBe(text);
      expect(readWith(new HarmonyParser(), [...pieces, " 2"]).text).toBe(`${text} 2`);
    }
});

test("answers follow the tools and the format", () => {
  const automaton = automatonOf(new ByteTokenizer());
  const follows = (root: Expression, text: string) =>
    automaton.after(automaton.start(root), Buffer.from(text))?.accepts ?? null;
  const analysis = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
  const final = "<|channel|>final<|message|>";
  const auto = atOnce(harmonyAnswers(null, tools, false));
  const rome = call("weather", '{"city": "Rome"}');
  for (const text of [
    rome,
    `${analysis}${rome}`,
    `${analysis}<|channel|>commentary<|message|>I look.<|end|><|start|>assistant${rome}`,
    `${analysis}${final}Any text.`,
  ])
    expect(follows(auto, text), text).toBe(true);
  for (const wrong of [call("whether", "{"), call("weather", '{"city": "Bonn"'), `${rome} and`, "Any text."])
    expect(follows(auto, wrong), wrong).toBeNull();
  const demanded = atOnce(harmonyAnswers(null, [{ name: "time" }], true));
  expect(follows(demanded, analysis + call("time", "{}"))).toBe(true);
  expect([follows(demanded, rome), follows(demanded, final)]).toEqual([null, null]);
  const choice = atOnce(harmonyAnswers(expressionOf({ type: "choice", choices: ["yes", "no"] }), [], false));
  expect([follows(choice, `${analysis}${final}yes`), follows(choice, `${final}perhaps`)]).toEqual([true, null]);
});

test("a random model keeps to the form", async () => {
  await using engine = chatEngine(template);
  const format = { type: "choice", choices: ["yes", "no"] } as const;
  const ask = (seed: number) =>
    engine.generate({ messages, format, seed, temperature: 1.3, maxTokens: 60 }).then((answer) => answer);
  const answers = await Promise.all([1, 2, 3, 4, 5, 6].map(ask));
  for (const { text, reasoning = "", finishReason } of answers)
    if (finishReason === "stop") expect(["yes", "no"]).toContain(text);
    else expect([text, reasoning.length > 10]).toEqual(["", true]);
  expect(new Set(answers.map(({ finishReason }) => finishReason))).toEqual(new Set(["stop", "length"]));
});
