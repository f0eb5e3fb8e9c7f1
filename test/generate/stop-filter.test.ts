import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StopFilter } from "../../lib/generate/stop-filter.js";
import { checkStops, StopTexts } from "../../lib/generate/stop-texts.js";
import { expectLittleWork } from "../support/processor-time.js";
import { textBeforeStop as expected } from "../support/stop-texts.js";

/** Returns the pieces that come out, the rest at the end, and whether a stop string occurred. */
function run(stops: string[], pieces: string[]): { pieces: string[]; rest: string; stopped: boolean } {
  const filter = new StopFilter(new StopTexts(stops));
  const out = pieces.map((piece) => filter.push(piece));
  return { pieces: out, rest: filter.end(), stopped: filter.stopped };
}

describe("StopFilter", () => {
  test("without stop strings everything passes at once", () => {
    expect(run([], ["a", "", "bc"])).toEqual({ pieces: ["a", "", "bc"], rest: "", stopped: false });
  });

  test("holds back text that may begin a stop string, and releases it when it does not", () => {
    const { pieces, rest, stopped } = run(["\n\nUser:"], ["Hi", "\n", "\n", "Use", "rs", "\n"]);
    expect(pieces).toEqual(["Hi", "", "", "", "\n\nUsers", ""]);
    expect(rest).toBe("\n");
    expect(stopped).toBe(false);
  });

  test("a stop string across pieces, and nothing after it", () => {
    const { pieces, rest, stopped } = run(["STOP"], ["one S", "T", "OP two", "three"]);
    expect(pieces).toEqual(["one ", "", "", ""]);
    expect(rest).toBe("");
    expect(stopped).toBe(true);
  });

  test("a beginning within a failed beginning", () => {
    expect(run(["aab"], ["a", "a", "a", "b"]).pieces).toEqual(["", "", "a", ""]);
  });

  test("the stop string complete first counts, then the longest", () => {
    expect(run(["abcd", "bc"], ["xabcd"]).pieces).toEqual(["xa"]);
    expect(run(["bc", "abc"], ["xabc"]).pieces).toEqual(["x"]);
  });

  test("reads each character once, however many stop strings nearly match", () => {
    // Each character of this text makes the longest beginning of each of the stop strings possible again.
    const stops = Array.from({ length: 16 }, (_, i) => `${"a".repeat(999)}${String.fromCharCode(98 + i)}`);
    expectLittleWork(1000, () => {
      const filter = new StopFilter(new StopTexts(stops));
      let out = "";
      for (let i = 0; i < 30_000; i++) out += filter.push("a");
      expect(out + filter.end()).toBe("a".repeat(30_000));
    });
  });

  test("more or longer stop strings than there may be are refused by their numbers", () => {
    const long = (count: number): string => "🦊".repeat(count);
    expect(checkStops("generate", Array(16).fill(long(1000)))).toHaveLength(16);
    const code = "ERR_RANGE";
    expect(() => checkStops("generate", Array(17).fill("a"))).toThrow(
      expect.objectContaining({ code, message: "generate: expected stop to have at most 16 strings, got 17" }),
    );
    expect(() => checkStops("generate", ["a", long(1001)])).toThrow(
      expect.objectContaining({
        ...{ code, message: "generate: expected each string of stop to have at most 1000 characters, got 1001" },
      }),
    );
  });

  test("does not depend on how the text is cut, and never releases undecided text", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "🦊"), maxLength: 12 });
    const stop = fc.string({ unit: fc.constantFrom("a", "b", "🦊"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(stop, { maxLength: 3 }), fc.array(letters, { maxLength: 8 }), (stops, cut) => {
        const filter = new StopFilter(new StopTexts(stops));
        const whole = expected(stops, cut.join(""));
        let out = "";
        let seen = "";
        for (const piece of cut) {
          out += filter.push(piece);
          seen += piece;
          // Whatever follows, the text that is out must stay correct, even if a stop string is completed next.
          for (const next of stops)
            for (let n = 0; n <= next.length; n++)
              expect(expected(stops, seen + next.slice(n)).startsWith(out)).toBe(true);
        }
        expect(out + filter.end()).toBe(whole);
        expect(filter.stopped).toBe(stops.some((text) => cut.join("").includes(text)));
      }),
    );
  });
});
