// The strings that several schemas allow together.
import type { Steps } from "../util/turns.js";
import { allCharacters } from "./characters.js";
import { type Expression, never } from "./expression.js";
import { quoted, stringCharacter, stringOf } from "./json-expressions.js";
import { type Ahead, lengthAhead, patternExpression, withLength } from "./pattern.js";
import { languageOfSearch, readPattern, withoutAnchors } from "./regular-expression.js";
import { type SchemaNode, unsupported } from "./schema-document.js";
import { countsOf, placeOf } from "./schema-keywords.js";
import { knownFormats, patternedFormats } from "./string-formats.js";
import type { Language } from "./language.js";
import { Languages } from "./text-language.js";

/** A regular expression of a string, and the place that has it. */
interface Source {
  readonly source: string;
  readonly place: string;
}

/**
 * Returns the strings that match all of the nodes.
 *
 * @throws ERR_ARGUMENT if a pattern has a part that heed does not support, or all are too large together.
 */
export function* stringExpression(nodes: readonly SchemaNode[], excepted: readonly unknown[]): Steps<Expression> {
  const [least, most] = countsOf(nodes, "minLength", "maxLength");
  if (least > most) return never;
  const sources = sourcesOf(nodes);
  const except = excepted.filter((value) => typeof value === "string");
  const nots = nodes.some(({ made }) => made?.notPattern !== undefined);
  if (sources.length === 0 && except.length === 0 && !nots) return stringOf(least, most);
  if (sources.length === 1 && except.length === 0 && !nots) {
    const [{ source, place }] = sources as [Source];
    const plain = withoutAnchors(yield* readPattern(source, `schema at ${place}`), true);
    const bounded = plain && withLength(plain, least, most);
    if (bounded) return strings(yield* patternExpression(bounded, stringCharacter));
  }
  const place = placeOf(nodes, "pattern", "format", "minLength", "maxLength");
  function* read(narrow: boolean): Steps<Expression> {
    const make = new Languages();
    const { language, longest } = yield* languageAndLength(nodes, excepted, make, narrow);
    return yield* make.expression(language, stringCharacter, `schema at ${place}`, longest);
  }
  let found = yield* read(true);
  if (found === never) found = yield* read(false);
  // The language of a format is smaller than the format.
  if (found === never && nodes.some(({ schema }) => isEnforced(schema.format)))
    throw unsupported(placeOf(nodes, "format"), "what stands beside it");
  return strings(found);
}

function strings(content: Expression): Expression {
  return content === never ? never : quoted(content);
}

function isEnforced(format: unknown): boolean {
  return typeof format === "string" && knownFormats[format] !== undefined;
}

/** Returns the different regular expressions of patterns and formats. */
function sourcesOf(nodes: readonly SchemaNode[]): readonly Source[] {
  const found = new Map<string, Source>();
  const isLimited = nodes.some(({ schema }) => schema.pattern !== undefined || schema.maxLength !== undefined);
  const formats = isLimited ? patternedFormats : knownFormats;
  for (const { schema, place } of nodes) {
    const { pattern, format } = schema as Record<string, string | undefined>;
    if (pattern !== undefined) found.set(pattern, { source: pattern, place: `${place}/pattern` });
    const known = isEnforced(format) ? `^(?:${formats[format!]!})$` : undefined;
    if (known !== undefined) found.set(known, { source: known, place: `${place}/format` });
  }
  return [...found.values()];
}

/** Returns the strings that match all of the nodes as a language. */
export function* stringLanguage(
  nodes: readonly SchemaNode[],
  excepted: readonly unknown[],
  make: Languages,
): Steps<Language> {
  const { language, longest } = yield* languageAndLength(nodes, excepted, make, false);
  if (longest === Infinity) return language;
  return make.both([language, make.repeat(make.characters(allCharacters), 0, longest)]);
}

/**
 * Returns the strings that match all of the nodes, apart from their largest length, and that length: to count characters
 * takes many states. With `narrow`, those that are only just as long as a lookahead allows may be missing.
 */
function* languageAndLength(
  nodes: readonly SchemaNode[],
  excepted: readonly unknown[],
  make: Languages,
  narrow: boolean,
): Steps<{ language: Language; longest: number }> {
  let [least, longest] = countsOf(nodes, "minLength", "maxLength");
  const parts: Language[] = [];
  for (const { source, place } of sourcesOf(nodes)) {
    const what = `schema at ${place}`;
    const pattern = yield* readPattern(source, what);
    const ahead: Ahead | null = lengthAhead(pattern);
    const isUsed = ahead !== null && (ahead.exact || narrow);
    parts.push(yield* languageOfSearch(source, isUsed ? ahead.rest : pattern, make, what));
    if (!isUsed) continue;
    parts.push(make.repeat(make.characters(ahead.of), 0, Infinity));
    [least, longest] = [Math.max(least, ahead.least), Math.min(longest, ahead.most)];
  }
  if (least > longest) return { language: make.none, longest };
  parts.push(make.repeat(make.characters(allCharacters), least, Infinity));
  for (const { made, place } of nodes)
    if (made?.notPattern !== undefined) {
      const what = `schema at ${place}`;
      const pattern = yield* readPattern(made.notPattern, what);
      parts.push(make.not(yield* languageOfSearch(made.notPattern, pattern, make, what)));
    }
  const texts = excepted.filter((value) => typeof value === "string").map((text) => make.text(text));
  if (texts.length > 0) parts.push(make.not(make.either(texts)));
  return { language: make.both(parts), longest };
}
