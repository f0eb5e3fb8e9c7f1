// JSON from a file that is not trusted: what JSON.parse lets pass in silence (a key twice, of which the last wins; broken
// UTF-8; any depth) is an error.

/** The value of `bytes`. Throws a SyntaxError that says what was expected. */
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

/** Valid JSON, and yet refused. */
class Unsound extends SyntaxError {}

/** Throws where an object has a key twice or values nest too deep; whether the rest is JSON, JSON.parse tells. */
function checkKeys(text: string, maxDepth: number): void {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "{" || character === "[") {
      if (open.push(new Set()) > maxDepth) throw new Unsound(`expected at most ${maxDepth} levels`);
    } else if (character === "}" || character === "]") {
      open.pop();
    } else if (character === '"') {
      const start = i;
      do i = text.indexOf('"', i + 1);
      while (i >= 0 && isEscaped(text, i));
      if (i < 0) return; // a string without an end
      let next = i + 1;
      while (" \t\r\n".includes(text[next] ?? "x")) next++;
      if (text[next] !== ":") continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (open.at(-1)?.has(key)) throw new Unsound(`expected unique names, got ${JSON.stringify(key)} twice`);
      open.at(-1)?.add(key);
    }
  }
}

/** Whether an odd number of backslashes stands before `index`. */
function isEscaped(text: string, index: number): boolean {
  let start = index;
  while (text[start - 1] === "\\") start--;
  return (index - start) % 2 === 1;
}
