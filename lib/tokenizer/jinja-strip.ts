// Python's strip, lstrip and rstrip and Jinja's trim in a chat template. Hugging Face's JavaScript interpreter ignores
// their argument, the characters to remove, and removes JavaScript's white space instead of Python's. Here calls of
// them are replaced by calls of functions that work as in Python.

interface Node {
  type?: unknown;
  [part: string]: unknown;
}

/** Matches the characters for which Python's str.isspace() is true. */
const spaces = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u; // eslint-disable-line no-control-regex

function strip(text: string, characters: string | null, start: boolean, end: boolean): string {
  const set = new Set(characters);
  const taken = (character: string): boolean => (characters === null ? spaces.test(character) : set.has(character));
  const given = Array.from(text);
  let [from, to] = [0, given.length];
  while (start && from < to && taken(given[from]!)) from++;
  while (end && to > from && taken(given[to - 1]!)) to--;
  return given.slice(from, to).join("");
}

const sides = { strip: [true, true], lstrip: [true, false], rstrip: [false, true] } as const;
type Method = keyof typeof sides;

/**
 * The functions that a template calls once withStripFunctions() has changed it. Their names contain a dot, so that no
 * template can name them itself.
 */
export const stripFunctions: Readonly<Record<string, (text: unknown, characters?: unknown) => string>> =
  Object.fromEntries(
    Object.entries(sides).map(([method, [start, end]]) => [
      `str.${method}`,
      (text: unknown, characters?: unknown) =>
        strip(typeof text === "string" ? text : "", typeof characters === "string" ? characters : null, start, end),
    ]),
  );

/** Replaces the methods and the filter by calls of these functions, everywhere in a parsed template. */
export function withStripFunctions(tree: unknown): void {
  if (typeof tree !== "object" || tree === null) return;
  const parts = tree as Record<string, unknown>;
  for (const [name, part] of Object.entries(parts)) {
    withStripFunctions(part);
    const call = Array.isArray(part) ? null : strippingCall(part as Node | null);
    if (call) parts[name] = call;
  }
}

function strippingCall(node: Node | null): Node | null {
  if (node?.type === "CallExpression") {
    const { callee, args } = node as { callee?: Node; args?: unknown[] };
    const method = callee?.type === "MemberExpression" && callee.computed !== true ? nameOf(callee.property) : null;
    return method !== null && Object.hasOwn(sides, method) ? call(method as Method, callee!.object, args ?? []) : null;
  }
  if (node?.type === "FilterExpression") {
    const filter = node.filter as Node | undefined;
    if (nameOf(filter) === "trim") return call("strip", node.operand, []);
    if (filter?.type === "CallExpression" && nameOf(filter.callee) === "trim")
      return call("strip", node.operand, (filter.args as unknown[] | undefined) ?? []);
  }
  return null;
}

function nameOf(node: unknown): string | null {
  const { type, value } = (node ?? {}) as Node;
  return type === "Identifier" && typeof value === "string" ? value : null;
}

function call(method: Method, text: unknown, args: readonly unknown[]): Node {
  return { type: "CallExpression", callee: { type: "Identifier", value: `str.${method}` }, args: [text, ...args] };
}
