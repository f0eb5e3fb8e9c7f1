// The objects that several schemas allow together. Their properties come in the order of the schemas.
import type { Steps } from "../util/turns.js";
import { choiceOf, type Expression, never, sequence } from "./expression.js";
import { anyObject, anyString, anyValue, colon, objectOf, quoted, stringCharacter } from "./json-expressions.js";
import { type Member, membersOf, mostOptional, otherName } from "./object-members.js";
import { languageOfSearch, readPattern } from "./regular-expression.js";
import { type Located, type SchemaNode, unsupported } from "./schema-document.js";
import type { SchemaContext } from "./schema-context.js";
import { countsOf, placeOf } from "./schema-keywords.js";
import type { Language } from "./language.js";
import { Languages } from "./text-language.js";
import { isPauseDue, spend } from "./work.js";

/** Most regular expressions for the names of properties. */
const mostPatterns = 6;

/**
 * Returns the objects that match all of the nodes.
 *
 * @throws ERR_ARGUMENT for what cannot be enforced.
 */
export function* objectExpression(
  nodes: readonly SchemaNode[],
  excepted: readonly unknown[],
  reader: SchemaContext,
): Steps<Expression> {
  const [fewest, most] = countsOf(nodes, "minProperties", "maxProperties");
  let least = fewest;
  for (const one of excepted.filter((value) => typeof value === "object" && value !== null && !Array.isArray(value))) {
    if (Object.keys(one as object).length > 0) throw unsupported(nodes[0]!.place, "excluded objects");
    least = Math.max(1, least);
  }
  const needed = new Set(nodes.flatMap(({ schema }) => (schema.required ?? []) as string[]));
  const names = namesOf(nodes, needed);
  spend(names.length * (2 + nodes.length / 2));
  const members: Member[] = [];
  for (const name of names) {
    if (isPauseDue()) yield;
    const value = isNamed(name, nodes, reader) ? yield* reader.value(partsFor(name, nodes, reader)) : never;
    if (value === never && needed.has(name)) return never;
    if (value !== never) members.push({ name, needed: needed.has(name), value });
  }
  const others = yield* otherMembers(names, isOpen(nodes, members), nodes, reader);
  if (others === anyMember && members.length === 0 && names.length === 0 && least === 0 && most === Infinity)
    return anyObject;
  if (members.filter((member) => !member.needed).length > mostOptional)
    throw unsupported(placeOf(nodes, "properties"), `more than ${mostOptional} properties that are not required`);
  const found = yield* membersOf(members, others, least, most);
  if (found !== null) return found === never ? never : objectOf(found);
  const place = placeOf(nodes, ...(most < Infinity ? ["maxProperties"] : []), "minProperties", "properties");
  throw unsupported(place, "so many combinations of properties");
}

/** Returns the names that the nodes have properties for, and those that are required. */
function namesOf(nodes: readonly SchemaNode[], needed: ReadonlySet<string>): readonly string[] {
  const sorted = [...nodes.filter(({ made }) => !made), ...nodes.filter(({ made }) => made)];
  return [...new Set([...sorted.flatMap(({ schema }) => Object.keys(schema.properties ?? {})), ...needed])];
}

/** Returns the schemas for the value of a property. */
function partsFor(name: string, nodes: readonly SchemaNode[], reader: SchemaContext): readonly Located[] {
  return nodes.flatMap((node) => {
    const found = reader.check.partsFor(name, node);
    const { unevaluated } = node.made ?? {};
    if (unevaluated?.properties === undefined) return found;
    const evaluated = unevaluated.of.some((one) =>
      one.made ? one.made.unevaluated?.properties !== undefined : reader.check.partsFor(name, one).length > 0,
    );
    return evaluated ? found : [...found, unevaluatedOf(node)];
  });
}

function unevaluatedOf({ made, place, base }: SchemaNode): Located {
  return { value: made!.unevaluated!.properties, place: `${place}/unevaluatedProperties`, base };
}

/** Returns true if the schemas for names allow a name. */
function isNamed(name: string, nodes: readonly SchemaNode[], reader: SchemaContext): boolean {
  return nodes.every(({ schema, place, base }) => {
    if (schema.propertyNames === undefined) return true;
    const node = reader.document.node({ value: schema.propertyNames, place: `${place}/propertyNames`, base });
    return typeof node === "boolean" ? node : reader.check.matches(name, node);
  });
}

/** Returns true if there may be other members. If no schema says so, an object with properties has only those. */
function isOpen(nodes: readonly SchemaNode[], members: readonly Member[]): boolean {
  const possible = new Set(members.map(({ name }) => name));
  return (
    nodes.some(
      ({ schema, made }) => schema.additionalProperties !== undefined || made?.unevaluated?.properties !== undefined,
    ) ||
    !nodes.some(({ schema, made }) => !made && Object.keys(schema.properties ?? {}).some((name) => possible.has(name)))
  );
}

const anyMember: Expression = sequence(anyString, colon, anyValue);

/** Returns a member whose name is none of these; null if there may be none. */
function* otherMembers(
  names: readonly string[],
  open: boolean,
  nodes: readonly SchemaNode[],
  reader: SchemaContext,
): Steps<Expression | null> {
  const patterns = [...new Set(nodes.flatMap(({ schema }) => Object.keys(schema.patternProperties ?? {})))];
  const naming = nodes.filter(({ schema }) => schema.propertyNames !== undefined);
  if (patterns.length === 0 && naming.length === 0) {
    const value = open ? yield* reader.value(othersFor([], nodes)) : never;
    if (value === never) return null;
    if (names.length === 0 && value === anyValue) return anyMember;
    return sequence(names.length === 0 ? anyString : quoted(yield* otherName(names)), colon, value);
  }
  if (patterns.length > mostPatterns)
    throw unsupported(placeOf(nodes, "patternProperties"), `more than ${mostPatterns} patterns together`);
  const make = new Languages();
  const common = [make.not(make.either(names.map((name) => make.text(name))))];
  for (const { schema, place, base } of naming)
    common.push(yield* reader.language([{ value: schema.propertyNames, place: `${place}/propertyNames`, base }], make));
  const place = placeOf(nodes, "patternProperties", "propertyNames");
  const what = `schema at ${place}`;
  const languages: Language[] = [];
  for (const source of patterns)
    languages.push(yield* languageOfSearch(source, yield* readPattern(source, what), make, what));
  const options: Expression[] = [];
  // Each name matches some of the patterns and not the others.
  for (let set = 0; set < 2 ** patterns.length; set++) {
    if (set === 0 && !open) continue;
    const isIn = (i: number): boolean => ((set >> i) & 1) === 1;
    const own: Language[] = languages.map((one, i) => (isIn(i) ? one : make.not(one)));
    const value = yield* reader.value(
      othersFor(
        patterns.filter((_, i) => isIn(i)),
        nodes,
      ),
    );
    if (value === never) continue;
    const name = yield* make.expression(make.both([...common, ...own]), stringCharacter, what);
    if (name !== never) options.push(sequence(quoted(name), colon, value));
  }
  return options.length === 0 ? null : choiceOf(options);
}

/** Returns the schemas for the values of names that match some of the patterns, and that no property has. */
function othersFor(patterns: readonly string[], nodes: readonly SchemaNode[]): readonly Located[] {
  const partsOf = ({ schema, place, base }: SchemaNode): readonly Located[] => {
    const { patternProperties = {}, additionalProperties } = schema as Record<string, Record<string, unknown>>;
    const own = patterns.filter((source) => Object.hasOwn(patternProperties, source));
    if (own.length > 0)
      return own.map((source) => ({
        ...{ value: patternProperties[source], place: `${place}/patternProperties/${source}`, base },
      }));
    if (additionalProperties === undefined) return [];
    return [{ value: additionalProperties, place: `${place}/additionalProperties`, base }];
  };
  return nodes.flatMap((node) => {
    const found = partsOf(node);
    const { unevaluated } = node.made ?? {};
    if (unevaluated?.properties === undefined) return found;
    const evaluated = unevaluated.of.some((one) =>
      one.made ? one.made.unevaluated?.properties !== undefined : partsOf(one).length > 0,
    );
    return evaluated ? found : [...found, unevaluatedOf(node)];
  });
}
