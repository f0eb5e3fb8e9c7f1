import { describe, HeedError } from "../util/errors.js";

/**
 * Pattern for the dotted names of modules and parameters. A string matches a name that contains its parts one after
 * another: "mlp" and "h.1" match "h.1.mlp.c_fc.weight", "h.1" does not match "h.10.mlp". An asterisk stands for any
 * characters within a part: "attn.c_*". A regular expression matches a name as usual.
 */
export type NamePattern = string | RegExp;

/**
 * Returns the patterns as functions that test a name.
 *
 * @throws ERR_ARGUMENT if one is neither a string that is not empty nor a regular expression, or if there is none.
 */
export function nameTests(
  op: string,
  what: string,
  patterns: NamePattern | readonly NamePattern[],
): ((name: string) => boolean)[] {
  const list = [patterns].flat() as unknown[];
  if (list.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one name in ${what}, got none`);
  return list.map((pattern) => {
    if (typeof pattern === "string" && pattern !== "") return partsTest(pattern);
    if (pattern instanceof RegExp) return (name) => name.search(pattern) >= 0;
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected ${what} to be names or regular expressions, got ${describe(pattern)}`,
    );
  });
}

function partsTest(pattern: string): (name: string) => boolean {
  const escaped = pattern.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll("*", "[^.]*");
  const expression = new RegExp(String.raw`(^|\.)${escaped}(\.|$)`);
  return (name) => expression.test(name);
}

/**
 * Returns those of the names that a pattern matches.
 *
 * @throws ERR_ARGUMENT if a pattern is malformed or matches none; the message lists some of the names.
 */
export function matchingNames(
  op: string,
  what: string,
  patterns: NamePattern | readonly NamePattern[],
  names: readonly string[],
): Set<string> {
  const found = new Set<string>();
  for (const [i, test] of nameTests(op, what, patterns).entries()) {
    const matched = names.filter(test);
    if (matched.length === 0)
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected ${what} to match names such as ${names.slice(0, 8).join(", ")}; got ${String([patterns].flat()[i])}, which matches none`,
      );
    for (const name of matched) found.add(name);
  }
  return found;
}
