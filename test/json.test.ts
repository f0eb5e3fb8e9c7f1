/** Large JSON, which is processed in pieces, must give the same results as JSON.parse and JSON.stringify. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { jsonParts, parseJson } from "../lib/util/json.js";
import { atOnce } from "../lib/util/turns.js";

const jsonText = (value: unknown): string => atOnce(jsonParts(value)).join("");

const filler = Array.from({ length: 2500 }, (_, i) => `"\\" \\\\${i}" , [${i},{"a":"]}"}]`).join(" ,\n");
const large = `[${filler}]`;
const members = Array.from({ length: 6000 }, (_, i) => `"k${i}\\"" : ${i}`).join(",");

/** Short values around and within large ones, in the formats that people write. */
const texts = fc
  .tuple(fc.json(), fc.json(), fc.constantFrom("", " ", "\n\t "))
  .map(
    ([a, b, space]) =>
      `${space}{"a"${space}:${space}${a},${space}"__proto__":${b},"big":${large},"b":[${b},${large}${space},{"vocab":{${members}}}]` +
      `,"1":${space}${a}${space}}${space}`,
  );

test("parsed", () => {
  fc.assert(
    fc.property(texts, (text) => {
      expect(atOnce(parseJson(text))).toEqual(JSON.parse(text));
    }),
    { numRuns: 2 },
  );
  const parsed = atOnce(parseJson(`{"__proto__":${large}}`)) as object;
  expect(Object.keys(parsed)).toEqual(["__proto__"]);
  expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
});

test("large members of a name as a Map, in their order", () => {
  const text = `{"model":{"vocab":{${members},"a":2}},"vocab":{"a":1},"x":${large}}`;
  const parsed = atOnce(parseJson(text, "vocab")) as { model: { vocab: Map<string, number> }; vocab: object };
  expect(parsed.vocab).toEqual({ a: 1 });
  expect(Object.fromEntries(parsed.model.vocab)).toEqual(
    (JSON.parse(text) as { model: { vocab: object } }).model.vocab,
  );
  expect(jsonText(parsed)).toBe(JSON.stringify(JSON.parse(text), null, 2));
});

test.each([
  `[${filler},]`,
  `[,${filler}]`,
  `[${filler}`,
  `[${filler}}`,
  `{"a":${large},}`,
  `{"a" ${large}}`,
  `{"a":${large} "b":1}`,
  `{"a":${large},,"b":1}`,
  `{a:${large}}`,
  `{"a":${large}} 1`,
  `{"a":${large},"b":}`,
  `{"a":${large},"b":1 2}`,
  `[${filler} ${filler}]`,
  `[${large}\v]`,
  `{"a":${large},"b":"\n"}`,
  " ".repeat(70_000),
  `"${"a".repeat(70_000)}`,
  "[".repeat(70_000),
  `nul${large}`,
])("refused as at once, case %#", (text) => {
  const message = (parse: () => unknown): string => {
    try {
      parse();
      return "none";
    } catch (error) {
      expect(error).toBeInstanceOf(SyntaxError);
      return (error as Error).message;
    }
  };
  expect(message(() => atOnce(parseJson(text)))).toBe(message(() => JSON.parse(text)));
  expect(message(() => JSON.parse(text))).not.toBe("none");
});

test("deeply nested values are parsed in time", () => {
  const text = `${'{"a":['.repeat(2000)}${large}${"]}".repeat(2000)}`;
  expect(atOnce(parseJson(text))).toEqual(JSON.parse(text));
});

test("written", () => {
  const value = fc.jsonValue();
  fc.assert(
    fc.property(value, value, fc.integer({ min: 0, max: 1100 }), (a, b, length) => {
      const list = Array.from({ length }, (_, i) => (i % 3 === 0 ? a : [b, "\n"]));
      const named = Object.fromEntries(Array.from({ length }, (_, i) => [`k${i}`, i % 5 === 0 ? b : i]));
      const whole = { a, list, nested: { named, left: undefined, none: null, empty: [], no: {} }, b };
      expect(jsonText(whole)).toBe(JSON.stringify(whole, null, 2));
      expect(jsonText({ named: new Map(Object.entries(named)) })).toBe(JSON.stringify({ named }, null, 2));
    }),
    { numRuns: 20 },
  );
});
