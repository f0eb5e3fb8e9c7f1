/**
 * Returns the lengths of the documents in a sequence of ids. Each document begins with the token `start`; the tokens
 * before the first `start` are the end of an earlier document and count as one.
 */
export function documentsIn(ids: Int32Array, start: number): number[] {
  const starts = [0];
  for (let t = 1; t < ids.length; t++) if (ids[t] === start) starts.push(t);
  return starts.map((from, i) => (starts[i + 1] ?? ids.length) - from);
}
