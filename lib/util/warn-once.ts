const said = new Set<string>();

/** Warns of something that goes on, once in the life of the process. `code` says what it is. */
export function warnOnce(code: string, text: string): void {
  if (said.has(code + text)) return;
  said.add(code + text);
  process.emitWarning(text, { code, type: "HeedWarning" });
}
