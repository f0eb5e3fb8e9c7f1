// Windows of a model's context over a long text.

/** Part of a text that a model sees at once: tokens `from` to `to`, of which those from `first` on are scored. */
export interface Window {
  readonly from: number;
  readonly first: number;
  readonly to: number;
}

/**
 * Returns windows over `length` tokens that score each token from `first` on once.
 *
 * Without a stride, the windows are blocks: each begins with the last token of the one before it, so that the first
 * tokens of a block have little context. With a stride, each window but the first scores at most `stride` tokens, and
 * sees as many tokens before them as fit into the context.
 */
export function windowsOf(length: number, first: number, contextLength: number, stride: number | null): Window[] {
  const windows: Window[] = [];
  let at = first;
  while (at < length) {
    const room = windows.length === 0 ? contextLength - first + 1 : (stride ?? contextLength);
    const to = Math.min(length, at + Math.max(1, room));
    // The last token is predicted, not read, so that one more than the context fits.
    const from = stride === null ? (windows.length === 0 ? 0 : at - 1) : Math.max(0, to - 1 - contextLength);
    windows.push({ from, first: at, to });
    at = to;
  }
  return windows;
}
