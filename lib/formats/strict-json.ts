// Parses JSON from untrusted files. JSON.parse silently accepts duplicate keys (the last one wins) and any depth, and
// decoders replace invalid UTF-8; here, all of these are errors.

/**
 * Returns the value of the JSON text in `bytes`.
 *
 * @throws SyntaxError if the text is not UTF-8, is not JSON, has a duplicate key or is nested deeper than `maxDepth`.
 */
export function parseStrictJson(bytes: Uint8Array, maxDepth: number): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SyntaxError("expected valid UTF-8", { cause });
  }
  try {
    checkKeys(text, maxDepth);
    return JSON.parse(text);
  } catch (cause) {
    if (cause instanceof Unsound) throw cause;
    throw new SyntaxError(`expected valid JSON: ${(cause as Error).message}`, { cause });
  }
}

/** Error of JSON that is valid but is rejected here. */
class Unsound extends SyntaxError {}

/**
 * Checks for duplicate keys in an object and for values nested too deep. JSON.parse finds all other errors.
 *
 * @throws SyntaxError if a key is duplicated or the depth is above `maxDepth`.
 */
function checkKeys(text: string, maxDepth: number): void {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "{" || character === "[") {
      if (open.push(new Set()) > maxDepth) throw new Unsound(`expected values nested at most ${maxDepth} deep`);
    } else if (character === "}" || character === "]") {
      open.pop();
    } else if (character === '"') {
      const start = i;
      do i = text.indexOf('"', i + 1);
      while (i >= 0 && isEscaped(text, i));
      if (i < 0) return; // an unterminated string
      let next = i + 1;
      while (" \t\r\n".includes(text[next] ?? "x")) next++;
      if (text[next] !== ":") continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (open.at(-1)?.has(key)) throw new Unsound(`expected unique names, got ${JSON.stringify(key)} twice`);
      open.at(-1)?.add(key);
    }
  }
}

/** Returns true if an odd number of backslashes precedes `index`. */
function isEscaped(text: string, index: number): boolean {
  let start = index;
  while (text[start - 1] === "\\") start--;
  return (index - start) % 2 === 1;
}
