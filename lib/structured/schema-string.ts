// The strings that several schemas allow together.
import { allCharacters } from "./characters.js";
import { type Expression, never } from "./expression.js";
import { quoted, stringCharacter, stringOf } from "./json-expressions.js";
import { patternExpression, withLength } from "./pattern.js";
import { languageOfSearch, readPattern, withoutAnchors } from "./regular-expression.js";
import { type SchemaNode, unsupported } from "./schema-document.js";
import { countsOf, placeOf } from "./schema-keywords.js";
import { knownFormats, patternedFormats } from "./string-formats.js";
import { type Language, Languages } from "./text-language.js";

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
export function stringExpression(nodes: readonly SchemaNode[], excepted: readonly unknown[]): Expression {
  const [least, most] = countsOf(nodes, "minLength", "maxLength");
  if (least > most) return never;
  const sources = sourcesOf(nodes);
  const except = excepted.filter((value) => typeof value === "string");
  const nots = nodes.some(({ made }) => made?.notPattern !== undefined);
  if (sources.length === 0 && except.length === 0 && !nots) return stringOf(least, most);
  if (sources.length === 1 && except.length === 0 && !nots) {
    const [{ source, place }] = sources as [Source];
    const plain = withoutAnchors(readPattern(source, `schema at ${place}`), true);
    const bounded = plain && withLength(plain, least, most);
    if (bounded) return strings(patternExpression(bounded, stringCharacter));
  }
  const make = new Languages();
  const place = placeOf(nodes, "pattern", "format", "minLength", "maxLength");
  const language = stringLanguage(nodes, excepted, make, false);
  const found = make.expression(language, stringCharacter, `schema at ${place}`, most);
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

/** Returns the strings that match all of the nodes as a language; without `limited`, their largest length is left out. */
export function stringLanguage(
  nodes: readonly SchemaNode[],
  excepted: readonly unknown[],
  make: Languages,
  limited = true,
): Language {
  const [least, most] = countsOf(nodes, "minLength", "maxLength");
  if (least > most) return make.none;
  const read = (source: string, place: string): Language => {
    const what = `schema at ${place}`;
    return languageOfSearch(source, readPattern(source, what), make, what);
  };
  const length = make.repeat(make.characters(allCharacters), least, limited ? most : Infinity);
  const parts = [length, ...sourcesOf(nodes).map(({ source, place }) => read(source, place))];
  for (const { made, place } of nodes)
    if (made?.notPattern !== undefined) parts.push(make.not(read(made.notPattern, place)));
  const texts = excepted.filter((value) => typeof value === "string").map((text) => make.text(text));
  if (texts.length > 0) parts.push(make.not(make.either(texts)));
  return make.both(parts);
}
