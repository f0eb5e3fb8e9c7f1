// Parses JavaScript's regular expressions (ECMA-262, "Patterns", flag u) to trees, for linear-expression.ts. The engine
// has accepted the expression before, so it is correct, and only what the tree needs is examined.
import { HeedError } from "../util/errors.js";

/** A regular expression as a tree. */
export type Tree =
  /** One character: the character itself, an escape, or a class, as it is written. */
  | { kind: "character"; source: string }
  | { kind: "assert"; sign: "^" | "$" | "b" | "B" }
  | { kind: "look"; body: Tree; behind: boolean; negative: boolean }
  | { kind: "sequence"; parts: Tree[] }
  | { kind: "choice"; options: Tree[] }
  | { kind: "repeat"; body: Tree; min: number; max: number; lazy: boolean };

const maxDepth = 200;

const looks: ReadonlyMap<string, { behind: boolean; negative: boolean }> = new Map([
  ["(?=", { behind: false, negative: false }],
  ["(?!", { behind: false, negative: true }],
  ["(?<=", { behind: true, negative: false }],
  ["(?<!", { behind: true, negative: true }],
]);

/** The ways in which a group can begin. They are tried in this order. */
const opening = /\(\?<?[=!]|\(\?:|\(\?<[^>]*>|\((?!\?)/y;
const character =
  /\\u\{[^}]*\}|\\u[dD][89abAB][^]{2}\\u[dD][c-fC-F][^]{2}|\\u[^]{4}|\\x[^]{2}|\\c[^]|\\[pP]\{[^}]*\}|\\[^]|\[(?:\\[^]|[^\]\\])*\]|[^]/uy;
const quantifier = /([*+?]|\{(\d+)(,?)(\d*)\})(\??)/y;

/**
 * Parses an expression.
 *
 * @throws ERR_FORMAT if the expression cannot be searched for in linear time, or its groups are nested too deeply.
 */
export function parseExpression(source: string): Tree {
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found) at += found[0].length;
    return found;
  };
  const refuse = (what: string): HeedError =>
    new HeedError(
      "ERR_FORMAT",
      `tokenizer: expected a regular expression without ${what}, got ${JSON.stringify(source)}`,
    );

  const choice = (depth: number): Tree => {
    if (depth > maxDepth) throw refuse(`groups nested more than ${maxDepth} deep`);
    const options = [sequence(depth)];
    while (source[at] === "|") {
      at++;
      options.push(sequence(depth));
    }
    return options.length === 1 ? options[0]! : { kind: "choice", options };
  };

  const sequence = (depth: number): Tree => {
    const parts: Tree[] = [];
    while (at < source.length && source[at] !== "|" && source[at] !== ")") parts.push(repeated(term(depth)));
    return { kind: "sequence", parts };
  };

  const term = (depth: number): Tree => {
    if (source[at] === "(") {
      const group = take(opening);
      if (!group) throw refuse("flags in a group");
      const body = choice(depth + 1);
      at++;
      const look = looks.get(group[0]);
      return look ? { kind: "look", body, ...look } : body;
    }
    const [sign] = take(character)!;
    if (/^\\(?:[1-9]|k)/.test(sign)) throw refuse("back references");
    if (sign === "^" || sign === "$") return { kind: "assert", sign };
    if (sign === "\\b" || sign === "\\B") return { kind: "assert", sign: sign[1] as "b" | "B" };
    return { kind: "character", source: sign };
  };

  const repeated = (body: Tree): Tree => {
    const found = take(quantifier);
    if (!found) return body;
    const [, sign, least = "", comma, most = "", lazy] = found;
    const min = sign === "+" ? 1 : Number(least);
    const max = sign === "?" ? 1 : sign === "*" || sign === "+" || (comma && !most) ? Infinity : Number(most || least);
    if (min < max && mayBeEmpty(body)) throw refuse("a repeated part that may be empty");
    return { kind: "repeat", body, min, max, lazy: lazy === "?" };
  };

  return choice(0);
}

function mayBeEmpty(tree: Tree): boolean {
  switch (tree.kind) {
    case "character":
      return false;
    case "assert":
    case "look":
      return true;
    case "sequence":
      return tree.parts.every(mayBeEmpty);
    case "choice":
      return tree.options.some(mayBeEmpty);
    case "repeat":
      return tree.min === 0 || mayBeEmpty(tree.body);
  }
}
