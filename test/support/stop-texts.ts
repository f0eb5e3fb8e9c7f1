/** Slow twin of `StopFilter`. */

/** Returns the text before the stop text that is complete first, or before the longest one if several are. */
export function textBeforeStop(stops: readonly string[], text: string): string {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (complete.length > 0) return text.slice(0, end - Math.max(...complete.map((stop) => stop.length)));
  }
  return text;
}
