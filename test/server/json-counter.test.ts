import fc from "fast-check";
import { expect, test } from "vitest";
import { JsonCounter } from "../../lib/server/json-counter.js";

test("counts what is outside strings, however the text is cut", () => {
  const piece = fc.constantFrom("\\", '"', '\\"', "\\\\", ",", "[", "{", ":", "a", "\u{1f433}", "]", "}", " ");
  const text = fc.oneof(
    fc.array(piece, { maxLength: 60 }).map((pieces) => pieces.join("")),
    fc.json({ stringUnit: piece }),
  );
  fc.assert(
    fc.property(text, fc.array(fc.nat(80), { maxLength: 6 }), (text, cuts) => {
      const counter = new JsonCounter();
      const ends = [...cuts, text.length].sort((a, b) => a - b);
      for (const [i, end] of ends.entries()) counter.push(text.slice(ends[i - 1] ?? 0, end));
      const outside = text.replace(/"(?:[^"\\]|\\[^])*(?:"|\\?$)/g, "");
      expect({ values: counter.values, names: counter.names }).toEqual({
        values: outside.replace(/[^,[{]/g, "").length,
        names: outside.replace(/[^:]/g, "").length,
      });
      let [level, depth] = [0, 0];
      for (const one of outside.replace(/[^[\]{}]/g, ""))
        depth = Math.max(depth, (level += "[{".includes(one) ? 1 : -1));
      expect(counter.depth).toBe(depth);
    }),
    { numRuns: 2000 },
  );
});
