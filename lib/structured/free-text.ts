// Any text up to a marker, after which something else comes.
import { byte, choice, empty, type Expression, rule, type Rule, sequence } from "./expression.js";

/**
 * Returns texts that end with the first occurrence of a marker, followed by `after`. If `optional` is true, they also may
 * end without it.
 */
export function textUntil(marker: string, after: Expression, optional: boolean): Expression {
  const bytes = Buffer.from(marker);
  const ended = optional ? [empty] : [];
  const states: Rule[] = Array.from(bytes, (_, i) => rule(`text until ${marker}, ${i}`, empty));
  for (const [matched, state] of states.entries()) {
    const targets = Array.from({ length: 256 }, (_, one) => matchedAfter(bytes, matched, one));
    const options: Expression[] = [];
    for (let low = 0; low < 256;) {
      let high = low;
      while (high < 255 && targets[high + 1] === targets[low]) high++;
      options.push(sequence(byte(low, high), states[targets[low]!] ?? after));
      low = high + 1;
    }
    state.body = choice(...ended, ...options);
  }
  return states[0]!;
}

/** Returns how many bytes of the marker a text ends with after one more byte (Knuth, Morris and Pratt 1977). */
function matchedAfter(marker: Buffer, matched: number, next: number): number {
  const text = Buffer.concat([marker.subarray(0, matched), Buffer.of(next)]);
  for (let length = text.length; length > 0; length--)
    if (text.subarray(text.length - length).equals(marker.subarray(0, length))) return length;
  return 0;
}
