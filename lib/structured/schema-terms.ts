// What keywords such as "anyOf" and "$ref" make of a schema: alternatives, each a list of schemas that all have to match
// and that have none of these keywords. So the keywords beside them, and those of several, are joined in one place.
import { append } from "../util/append.js";
import { HeedError } from "../util/errors.js";
import type { JsonSchema } from "../util/json-schema.js";
import type { Steps } from "../util/turns.js";
import { discriminated } from "./discriminator.js";
import { placeName } from "./place-name.js";
import {
  isObject,
  type Located,
  type MadeRules,
  type SchemaDocument,
  type SchemaNode,
  unsupported,
} from "./schema-document.js";
import { applicators, checkKeywords, commonTypes, isAssertion, type Type, types, typesOf } from "./schema-keywords.js";
import { type Term, typesOfTerm } from "./schema-term.js";
import { isPauseDue, spend } from "./work.js";

/** Largest number of alternatives that a schema may have. */
const mostTerms = 4096;

/** Most levels of schemas within schemas that are about the same value. */
const mostLevels = 1000;

/** Returns true if it is certain that no value matches all of the schemas. */
export type IsNever = (schemas: readonly Located[]) => Steps<boolean>;

/** Finds the alternatives of the schemas of a document. */
export class SchemaTerms {
  readonly #document: SchemaDocument;
  readonly #strict: boolean;
  readonly #isNever: IsNever;
  readonly #known = new Map<SchemaNode, readonly Term[]>();
  readonly #open = new Set<SchemaNode>();
  /** Nodes of what does not match something: they evaluate no properties and items. */
  readonly #silent = new Set<SchemaNode>();
  readonly #negated = new Map<SchemaNode, readonly Term[]>();

  constructor(document: SchemaDocument, strict: boolean, isNever: IsNever) {
    this.#document = document;
    this.#strict = strict;
    this.#isNever = isNever;
  }

  /** Returns the alternatives of schemas that all have to match. */
  *of(schemas: readonly Located[]): Steps<readonly Term[]> {
    let found: readonly Term[] = [[]];
    for (const schema of schemas) found = yield* this.#product(found, yield* this.#one(schema), schema.place);
    return found;
  }

  *#one(schema: Located): Steps<readonly Term[]> {
    const node = this.#document.node(schema);
    return typeof node === "boolean" ? (node ? [[]] : []) : yield* this.#alternatives(node);
  }

  *#product(a: readonly Term[], b: readonly Term[], place: string): Steps<readonly Term[]> {
    if (a.length === 1 && a[0]!.length === 0) return b;
    if (b.length === 1 && b[0]!.length === 0) return a;
    const found = new Map<string, Term>();
    for (const first of a)
      for (const second of b) {
        spend(1 + (first.length + second.length) / 4);
        if (isPauseDue()) yield;
        const joint = [...new Set([...first, ...second])].sort((x, y) => x.id - y.id);
        if (typesOfTerm(joint).length === 0) continue;
        found.set(joint.map(({ id }) => id).join(), joint);
        if (found.size > mostTerms) throw unsupported(place, `more than ${mostTerms} combinations of alternatives`);
      }
    return [...found.values()];
  }

  *#alternatives(node: SchemaNode): Steps<readonly Term[]> {
    const known = this.#known.get(node);
    if (known) return known;
    if (this.#open.has(node))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${placeName(`schema at ${node.place}`)}: expected a schema that does not refer to itself for the same value, got one that does`,
      );
    if (this.#open.size >= mostLevels)
      throw new HeedError("ERR_ARGUMENT", "format: expected parts that are nested less deeply, got too many levels");
    this.#open.add(node);
    try {
      const found = yield* this.#find(node);
      this.#known.set(node, found);
      return found;
    } finally {
      this.#open.delete(node);
    }
  }

  *#find(node: SchemaNode): Steps<readonly Term[]> {
    if (isPauseDue()) yield;
    if (node.made) return [[node]];
    checkKeywords(node, this.#document, this.#strict);
    const { schema, place, base } = node;
    const at = (value: unknown, name: string): Located => ({ value, place: `${place}/${name}`, base });
    const own = Object.keys(schema).filter((name) => isAssertion(name) && !applicators.includes(name));
    const hasOthers = applicators.some((name) => name in schema);
    if (!hasOthers) return own.length === 0 ? [[]] : typesOfTerm([node]).length === 0 ? [] : [[node]];
    let found: readonly Term[] = [[]];
    const product = (others: readonly Term[], name: string): Steps<readonly Term[]> =>
      this.#product(found, others, `${place}/${name}`);
    if (own.length > 0) {
      const rest = Object.fromEntries(own.map((name) => [name, schema[name]]));
      const same = this.#document.node({ value: rest, place, base });
      if (typeof same === "object") found = yield* product(yield* this.#alternatives(same), "");
    }
    for (const name of ["$ref", "$dynamicRef", "$recursiveRef"] as const)
      if (schema[name] !== undefined) found = yield* product(yield* this.#one(this.#target(node, name)), name);
    const list = (name: string): readonly Located[] =>
      ((schema[name] ?? []) as unknown[]).map((value, i) => at(value, `${name}/${i}`));
    for (const part of list("allOf")) found = yield* product(yield* this.#one(part), "allOf");
    if (schema.anyOf !== undefined) found = yield* product(yield* this.#either(list("anyOf")), "anyOf");
    if (schema.if !== undefined) found = yield* product(yield* this.#conditional(node), "if");
    if (schema.not !== undefined) found = yield* product(yield* this.#not(at(schema.not, "not")), "not");
    for (const name of ["dependencies", "dependentRequired", "dependentSchemas"])
      for (const [key, value] of Object.entries((schema[name] ?? {}) as JsonSchema))
        found = yield* product(yield* this.#dependency(node, key, at(value, `${name}/${key}`)), name);
    if (schema.oneOf !== undefined) found = yield* product(yield* this.#one_of(list("oneOf"), found, place), "oneOf");
    if (schema.unevaluatedProperties !== undefined || schema.unevaluatedItems !== undefined)
      found = found.map((term) => this.#unevaluated(node, term));
    return found;
  }

  /** Returns what a reference names. */
  #target(node: SchemaNode, name: "$ref" | "$dynamicRef" | "$recursiveRef"): Located {
    const at = { place: `${node.place}/${name}`, base: node.base };
    const reference = node.schema[name];
    if (name === "$dynamicRef" && typeof reference === "string") {
      const [, anchor = ""] = reference.split("#");
      if (this.#document.dynamicAnchors(anchor) > 1) throw unsupported(at.place, "a dynamic anchor of several schemas");
    }
    if (name === "$recursiveRef" && this.#document.dynamicAnchors("") > 1)
      throw unsupported(at.place, "recursive anchors in several schemas");
    return this.#document.resolve(reference, at);
  }

  *#either(options: readonly Located[]): Steps<readonly Term[]> {
    const found = new Map<string, Term>();
    for (const option of options)
      for (const term of yield* this.#one(option)) found.set(term.map(({ id }) => id).join(), term);
    // An alternative that demands nothing has the values of all others.
    return found.has("") ? [[]] : [...found.values()];
  }

  *#conditional({ schema, place, base }: SchemaNode): Steps<readonly Term[]> {
    const part = (name: string): Located => ({ value: schema[name] ?? true, place: `${place}/${name}`, base });
    const condition = part("if");
    const holds = yield* this.#product(yield* this.#one(condition), yield* this.#one(part("then")), `${place}/then`);
    // Without further demands, it does not matter if the condition holds; but what it evaluates may.
    if (schema.then === undefined && schema.else === undefined && !("unevaluatedProperties" in schema)) return [[]];
    const fails = yield* this.#product(yield* this.#not(condition), yield* this.#one(part("else")), `${place}/else`);
    return [...holds, ...fails];
  }

  *#dependency({ base }: SchemaNode, key: string, needed: Located): Steps<readonly Term[]> {
    const { place, value } = needed;
    const absent = this.#made({ properties: { [key]: false } }, place, base);
    const present = [[this.#made({ required: [key], type: "object" }, place, base)]];
    const more = Array.isArray(value)
      ? [[this.#made({ required: value as unknown[] }, place, base)]]
      : yield* this.#one(needed);
    return [[absent], ...(yield* this.#product(present, more, place))];
  }

  *#one_of(options: readonly Located[], siblings: readonly Term[], place: string): Steps<readonly Term[]> {
    const terms: (readonly Term[])[] = [];
    for (const option of options) terms.push(yield* this.#one(option));
    const possible = options.map((_, i) => i).filter((i) => terms[i]!.length > 0);
    if (yield* discriminated(possible.map((i) => terms[i]!))) return possible.flatMap((i) => terms[i]!);
    const at = `${place}/oneOf`;
    // The keywords beside may tell options apart, too.
    const beside: Located[] =
      siblings.length === 1
        ? siblings[0]!.map(({ schema, place: where, base }) => ({ value: schema, place: where, base }))
        : [];
    const overlaps = new Map<number, number[]>(possible.map((i) => [i, []]));
    for (const [n, i] of possible.entries())
      for (const j of possible.slice(n + 1)) {
        spend(4);
        if (isPauseDue()) yield;
        if (this.#areApart(terms[i]!, terms[j]!)) continue;
        if (yield* this.#isNever([...beside, options[i]!, options[j]!])) continue;
        overlaps.get(i)!.push(j);
        overlaps.get(j)!.push(i);
      }
    const found: Term[] = [];
    for (const i of possible) {
      let own = terms[i]!;
      for (const j of overlaps.get(i)!) own = yield* this.#without(own, options[j]!, at);
      for (const term of own) found.push(term);
    }
    return found;
  }

  /** Returns alternatives of "oneOf" without the values of another one. */
  *#without(terms: readonly Term[], other: Located, place: string): Steps<readonly Term[]> {
    try {
      return yield* this.#product(terms, yield* this.#not(other), place);
    } catch (cause) {
      if (!(cause instanceof HeedError) || !cause.message.startsWith("schema at")) throw cause;
      throw unsupported(place, `options of which a value can match two; anyOf allows that (${cause.message})`);
    }
  }

  #areApart(a: readonly Term[], b: readonly Term[]): boolean {
    return a.every((one) => b.every((other) => commonTypes(typesOfTerm(one), typesOfTerm(other)).length === 0));
  }

  #unevaluated({ schema, place, base }: SchemaNode, term: Term): Term {
    const rules: MadeRules = {
      unevaluated: {
        of: term.filter((one) => !this.#silent.has(one)),
        properties: schema.unevaluatedProperties,
        items: schema.unevaluatedItems,
      },
    };
    return [...term, this.#made({}, place, base, rules)];
  }

  #made(schema: JsonSchema, place: string, base: string, rules: MadeRules = {}): SchemaNode {
    return this.#document.make(schema, place, base, rules);
  }

  /** Returns the alternatives of what does not match a schema. */
  *#not(schema: Located): Steps<readonly Term[]> {
    const node = this.#document.node(schema);
    if (typeof node === "boolean") return node ? [] : [[]];
    const found = this.#negated.get(node) ?? (yield* this.#negations(node, schema.place));
    this.#negated.set(node, found);
    for (const term of found) for (const one of term) this.#silent.add(one);
    return found;
  }

  *#negations(node: SchemaNode, place: string): Steps<readonly Term[]> {
    if (isPauseDue()) yield;
    checkKeywords(node, this.#document, this.#strict);
    const { schema, base } = node;
    const at = (value: unknown, name: string): Located => ({ value, place: `${place}/${name}`, base });
    const list = (name: string): readonly Located[] =>
      ((schema[name] ?? []) as unknown[]).map((value, i) => at(value, `${name}/${i}`));
    const one = (type: Type | readonly Type[], keywords: JsonSchema, name: string, rules: MadeRules = {}): Term => [
      this.#made({ type, ...keywords }, name === "" ? place : `${place}/${name}`, base, rules),
    ];
    const number = (name: string): number => schema[name] as number;
    const found: Term[] = [];
    for (const name of Object.keys(schema).filter(isAssertion)) {
      const value = schema[name];
      if (name === "type") found.push(...this.#otherTypes(schema, place, one));
      else if (name === "const" || name === "enum")
        found.push(one(exceptTypes, {}, name, { except: name === "const" ? [value] : (value as unknown[]) }));
      else if (name === "minimum") found.push(one("number", { exclusiveMaximum: value }, name));
      else if (name === "maximum") found.push(one("number", { exclusiveMinimum: value }, name));
      else if (name === "exclusiveMinimum" && typeof value === "number")
        found.push(one("number", { maximum: value }, name));
      else if (name === "exclusiveMaximum" && typeof value === "number")
        found.push(one("number", { minimum: value }, name));
      else if (name === "pattern") found.push(one("string", {}, name, { notPattern: value as string }));
      else if (countTypes[name] !== undefined) {
        const [type, opposite] = countTypes[name];
        const isLeast = name.startsWith("min");
        if (!isLeast) found.push(one(type, { [opposite]: number(name) + 1 }, name));
        else if (number(name) > 0) found.push(one(type, { [opposite]: number(name) - 1 }, name));
      } else if (name === "required")
        for (const key of value as string[]) found.push(one("object", { properties: { [key]: false } }, name));
      else if (name === "properties")
        for (const [key, part] of Object.entries(value as JsonSchema))
          if (part !== true && !(isObject(part) && !Object.keys(part).some(isAssertion)))
            found.push(one("object", { required: [key], properties: { [key]: { not: part } } }, ""));
          else continue;
      else if (name === "not") append(found, yield* this.#one(at(value, name)));
      else if (name === "anyOf") {
        let all: readonly Term[] = [[]];
        for (const part of list(name)) all = yield* this.#product(all, yield* this.#not(part), place);
        append(found, all);
      } else if (name === "allOf") for (const part of list(name)) append(found, yield* this.#not(part));
      else if (name === "$ref") append(found, yield* this.#not(this.#target(node, name)));
      else if (name === "contains" && schema.minContains === undefined && schema.maxContains === undefined)
        found.push(one("array", { items: { not: value } }, name));
      else if (name !== "additionalProperties" || (value !== true && !isEmpty(value)))
        throw unsupported(`${place}/${name}`, `the opposite of ${name}`);
    }
    return this.#negationsOf(found);
  }

  #negationsOf(terms: readonly Term[]): readonly Term[] {
    return terms.some((term) => term.length === 0) ? [[]] : terms;
  }

  #otherTypes(
    schema: JsonSchema,
    place: string,
    one: (type: readonly Type[], keywords: JsonSchema, name: string) => Term,
  ): Term[] {
    const own = typesOf(schema);
    if (own.includes("integer")) throw unsupported(`${place}/type`, "the opposite of integers");
    const others = types.filter((type) => type !== "integer" && !own.includes(type));
    return others.length === 0 ? [] : [one(others, {}, "type")];
  }
}

const exceptTypes: readonly Type[] = ["string", "number", "array", "object", "boolean", "null"];

function isEmpty(value: unknown): boolean {
  return isObject(value) && !Object.keys(value).some(isAssertion);
}

/** Types of the values that are counted, and the keyword of the opposite bound. */
const countTypes: Readonly<Record<string, readonly [Type, string]>> = {
  minLength: ["string", "maxLength"],
  maxLength: ["string", "minLength"],
  minItems: ["array", "maxItems"],
  maxItems: ["array", "minItems"],
  minProperties: ["object", "maxProperties"],
  maxProperties: ["object", "minProperties"],
};
