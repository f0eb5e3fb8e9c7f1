// The arrays that several schemas allow together.
import type { Steps } from "../util/turns.js";
import {
  choice,
  choiceOf,
  empty,
  type Expression,
  literal,
  never,
  optionalPart,
  repeat,
  rule,
  type Rule,
  sequence,
} from "./expression.js";
import { anyArray, anyValue, arrayOf, list, separator } from "./json-expressions.js";
import { itemsOf } from "./schema-check.js";
import { type Located, type SchemaNode, unsupported } from "./schema-document.js";
import type { SchemaContext } from "./schema-context.js";
import { countsOf, placeOf } from "./schema-keywords.js";
import { spend } from "./work.js";

/** Most items of an array in which one has to match a further schema, if their number is limited. */
const mostPlaces = 64;

/** Most values that the items of an array without equal ones can have. */
const mostDifferent = 8;

/** The items of an array: the first ones, and all others. */
interface Items {
  readonly first: readonly Expression[];
  readonly rest: Expression;
}

/**
 * Returns the arrays that match all of the nodes.
 *
 * @throws ERR_ARGUMENT for what cannot be enforced, such as that no two of any items are equal.
 */
export function* arrayExpression(
  nodes: readonly SchemaNode[],
  excepted: readonly unknown[],
  reader: SchemaContext,
): Steps<Expression> {
  let [least, most] = countsOf(nodes, "minItems", "maxItems");
  for (const one of excepted.filter((value) => Array.isArray(value))) {
    if ((one as unknown[]).length > 0) throw unsupported(nodes[0]!.place, "excluded arrays");
    least = Math.max(1, least);
  }
  const length = Math.max(0, ...nodes.map(({ schema }) => itemsOf(schema, reader.document)[0].length));
  spend(length);
  const parts = Array.from({ length }, (_, i) => partsFor(nodes, i, reader));
  const rest = partsFor(nodes, length, reader);
  const contained = nodes.flatMap((node) => containedIn(node));
  for (const { schema, min, max } of contained)
    if (schema.value === true) [least, most] = [Math.max(least, min), Math.min(most, max)];
  if (least > most) return never;
  function* read(further: readonly Located[]): Steps<Items> {
    const first: Expression[] = [];
    for (const part of parts) first.push(yield* reader.value([...part, ...further]));
    return { first, rest: yield* reader.value([...rest, ...further]) };
  }
  const items = yield* read([]);
  const hits = contained.filter(({ schema }) => schema.value !== true);
  const unique = nodes.some(({ schema }) => schema.uniqueItems === true) && most > 1 && !isShort(items);
  if (hits.length > 0) {
    const [hit] = hits as [Contained];
    if (unique || hits.length > 1) throw unsupported(hit.schema.place);
    if (hit.max !== Infinity) throw unsupported(placeOf(nodes, "maxContains"));
    if (hit.min > 1) throw unsupported(placeOf(nodes, "minContains"));
    return enclosed(containing(items, yield* read([hit.schema]), least, most, hit.schema.place));
  }
  if (unique) {
    const texts = length === 0 ? yield* reader.textsOf(rest) : null;
    if (!texts || texts.length > mostDifferent) throw unsupported(placeOf(nodes, "uniqueItems"));
    return enclosed(different(texts, least, most));
  }
  if (length === 0 && items.rest === anyValue && least === 0 && most === Infinity) return anyArray;
  return enclosed(tuple(items, least, most));
}

function enclosed(content: Expression): Expression {
  return content === never ? never : arrayOf(content);
}

/** Returns true if an array can have one item at most. */
function isShort({ first, rest }: Items): boolean {
  const end = first.indexOf(never);
  return (end !== -1 && end <= 1) || (first.length <= 1 && rest === never);
}

/** Returns the schemas that the nodes have for an item. */
function partsFor(nodes: readonly SchemaNode[], i: number, reader: SchemaContext): readonly Located[] {
  return nodes.flatMap(({ schema, place, base, made }): readonly Located[] => {
    const [first, rest] = itemsOf(schema, reader.document);
    const own = i < first.length ? first[i] : rest;
    const name = Array.isArray(schema.items)
      ? i < first.length
        ? `items/${i}`
        : "additionalItems"
      : i < first.length
        ? `prefixItems/${i}`
        : "items";
    const found: Located[] = own === undefined ? [] : [{ value: own, place: `${place}/${name}`, base }];
    const { unevaluated } = made ?? {};
    if (unevaluated?.items === undefined || isEvaluated(unevaluated.of, i, reader)) return found;
    return [...found, { value: unevaluated.items, place: `${place}/unevaluatedItems`, base }];
  });
}

/** Returns true if one of the nodes has a schema for an item. */
function isEvaluated(nodes: readonly SchemaNode[], i: number, reader: SchemaContext): boolean {
  return nodes.some(({ schema, made }) => {
    if (made) return made.unevaluated?.items !== undefined;
    const [first, rest] = itemsOf(schema, reader.document);
    return i < first.length || rest !== undefined;
  });
}

/** A schema that some items have to match. */
interface Contained {
  readonly schema: Located;
  readonly min: number;
  readonly max: number;
}

function containedIn({ schema, place, base }: SchemaNode): readonly Contained[] {
  const { contains, minContains = 1, maxContains = Infinity } = schema as Record<string, number | undefined>;
  if (contains === undefined || (minContains === 0 && maxContains === Infinity)) return [];
  return [{ schema: { value: contains, place: `${place}/contains`, base }, min: minContains, max: maxContains }];
}

/** Returns the items of an array with a number of them between two. */
function tuple({ first, rest }: Items, least: number, most: number): Expression {
  if (first.length === 0) return rest === never ? (least > 0 ? never : empty) : list(rest, least, most);
  const others = repeat(sequence(separator, rest), Math.max(0, least - first.length), Math.max(0, most - first.length));
  let after: Expression = most > first.length ? others : least > first.length ? never : empty;
  for (let i = first.length - 1; i >= 0; i--) {
    if (i >= most) {
      after = empty;
      continue;
    }
    const more = sequence(...(i === 0 ? [] : [separator]), first[i]!, after);
    after = i < least ? more : more === never ? empty : rule("items", optionalPart(more));
  }
  return after;
}

/** Returns the items of an array in which at least one is of `hits`. */
function containing(items: Items, hits: Items, least: number, most: number, place: string): Expression {
  const count = most < Infinity ? most : Math.max(items.first.length, least - 1);
  if (count > mostPlaces) throw unsupported(place, `more than ${mostPlaces} items beside it`);
  const itemAt = ({ first, rest }: Items, i: number): Expression => first[i] ?? rest;
  const options = Array.from({ length: count }, (_, at) => {
    const length = Math.max(at + 1, items.first.length);
    const first = Array.from({ length }, (__, i) => itemAt(i === at ? hits : items, i));
    return tuple({ first, rest: items.rest }, Math.max(least, at + 1), most);
  });
  if (most < Infinity) return choiceOf(options);
  // Further on, it does not matter which item it is.
  const before = Array.from({ length: count }, (_, i) => [itemAt(items, i), separator]).flat();
  const [earlier, later] = [sequence(items.rest, separator), sequence(separator, items.rest)];
  return choiceOf([...options, sequence(...before, repeat(earlier, 0), hits.rest, repeat(later, 0))]);
}

/** Returns lists of the texts in which none occurs twice. */
function different(texts: readonly string[], least: number, most: number): Expression {
  const states = new Map<number, Rule>();
  /** Returns what follows when the texts of a set have been used. */
  const after = (used: number): Expression => {
    const known = states.get(used);
    if (known) return known;
    const made = rule("other items", empty);
    states.set(used, made);
    const count = texts.filter((_, i) => (used >> i) & 1).length;
    const options = texts.map((text, i) => {
      if ((used >> i) & 1 || count >= most) return never;
      return sequence(...(count === 0 ? [] : [separator]), literal(text), after(used | (1 << i)));
    });
    made.body = choice(...(count >= least ? [empty] : []), ...options);
    return made.body === never ? never : made;
  };
  return least > texts.length ? never : after(0);
}
