/** Tokens that end within characters: a stream must decode them as the bytes together are decoded. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { byteStream } from "../../lib/tokenizer/token-stream.js";
import { nightly } from "../support/nightly.js";

/** Bytes of ASCII, of longer characters, and of none. */
const some = fc.oneof(
  fc
    .constantFrom("a", " ", "\n", "\0", "é", "ß", "鯨", "\u{1f40b}", "\ufeff", "\ufffd")
    .map((text) => [...Buffer.from(text)]),
  fc.constantFrom([0xff], [0xc3], [0xe9, 0xaf], [0xf0, 0x9f, 0x90], [0x80], [0xc0, 0x80], [0xed, 0xa0, 0x80]),
);

test("the texts of the tokens, joined, are the text of the bytes", () => {
  fc.assert(
    fc.property(
      fc.array(some, { maxLength: 40 }),
      fc.array(fc.nat({ max: 45 }), { maxLength: 200 }),
      (characters, cuts) => {
        const bytes = Uint8Array.from(characters.flat());
        // Tokens may be empty, and the last one has the rest.
        const ends = cuts.map((_, i) => cuts.slice(0, i + 1).reduce((sum, cut) => sum + cut, 0));
        const tokens = [...ends, Infinity].map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
        const stream = byteStream((id) => tokens[id]!);
        const found = [...tokens.keys()].map((id) => stream.push(id)).join("") + stream.end();
        const whole = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(tokens));
        expect(found).toBe(whole);
      },
    ),
    { numRuns: nightly ? 20_000 : 500 },
  );
});

test("a stream shows no half characters, and all that is whole at once", () => {
  const tokens = [Buffer.from("ab"), Buffer.from("鯨").subarray(0, 2), Buffer.from("鯨").subarray(2), Buffer.from("é")];
  const stream = byteStream((id) => tokens[id]!);
  expect([0, 1, 2, 3, 1].map((id) => stream.push(id))).toEqual(["ab", "", "鯨", "é", ""]);
  expect(stream.end()).toBe("\ufffd");
  expect(stream.push(0)).toBe("ab");
});
