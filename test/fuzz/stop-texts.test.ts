/** Stop texts that repeat, overlap, span tokens and contain characters of several bytes, against a slow twin. */
import fc from "fast-check";
import { expect } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { StopFilter } from "../../lib/generate/stop-filter.js";
import { StopTexts } from "../../lib/generate/stop-texts.js";
import { chatModel } from "../server/support.js";
import { textBeforeStop } from "../support/stop-texts.js";
import { fuzz } from "./fuzz.js";

/** Characters of one and of two UTF-16 units; the last two begin with the same one. */
const letter = fc.constantFrom("a", "b", "é", "\u0301", "🦊", "🦉");
/** A text that repeats a short one, as those do that fail late. */
const repeating = fc
  .tuple(fc.string({ unit: letter, minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 12 }))
  .map(([period, count]) => period.repeat(count));
const text = fc.oneof(fc.string({ unit: letter, minLength: 1, maxLength: 8 }), repeating);

/** A text, stop texts of which some are parts of it or of each other, and where the text is cut. */
const filtering = fc
  .record({
    parts: fc.array(text, { maxLength: 12 }),
    others: fc.array(text, { maxLength: 4 }),
    cuts: fc.array(fc.nat(), { maxLength: 12 }),
    ranges: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 9 })), { maxLength: 3 }),
  })
  .map(({ parts, others, cuts, ranges }) => {
    const whole = Array.from(parts.join(""));
    const within = ranges.map(([from, length]) => {
      const start = from % (whole.length + 1);
      return whole.slice(start, start + length).join("");
    });
    const stops = [...others, ...within, ...others.map((stop) => Array.from(stop).slice(1).join(""))].filter(Boolean);
    return { whole: whole.join(""), stops, cuts };
  });

fuzz("any text in any pieces is cut as the slow twin cuts it", filtering, { ci: 2000, nightly: 400_000 }, (one) => {
  const { whole, stops, cuts } = one;
  // Pieces may end within a character.
  const places = [0, ...cuts.map((cut) => cut % (whole.length + 1)), whole.length].sort((a, b) => a - b);
  const pieces = places.slice(1).map((end, i) => whole.slice(places[i], end));
  const filter = new StopFilter(new StopTexts(stops));
  const out = pieces.map((piece) => filter.push(piece)).join("");
  const certain = textBeforeStop(stops, whole);
  expect(out + filter.end()).toBe(certain);
  expect(filter.stopped).toBe(stops.some((stop) => whole.includes(stop)));
});

const request = fc.record({
  seed: fc.nat(1e6),
  temperature: fc.constantFrom(0, 0.7, 1.5),
  ranges: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 12 })), { minLength: 1, maxLength: 4 }),
  n: fc.integer({ min: 1, max: 3 }),
});

const { model, tokenizer } = chatModel();

fuzz("answers of bytes end before parts of themselves", request, { ci: 6, nightly: 1500 }, async (one) => {
  const { ranges, ...options } = one;
  await using engine = new Engine(model, { tokenizer });
  const asked = { ...options, prompt: "Why?", maxTokens: 60, stopTokens: [] };
  const free = await engine.generate(asked);
  const characters = Array.from(free.text);
  const stop = ranges
    .map(([from, length]) => {
      const start = from % (characters.length + 1);
      return characters.slice(start, start + length).join("");
    })
    .filter(Boolean);
  const { choices } = await engine.generate({ ...asked, stop });
  for (const [i, choice] of choices.entries()) {
    const whole = free.choices[i]!.text;
    expect(choice.text).toBe(textBeforeStop(stop, whole));
    expect(choice.finishReason).toBe(stop.some((part) => whole.includes(part)) ? "stop" : "length");
  }
});
