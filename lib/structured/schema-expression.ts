// JSON schemas as expressions. What is generated always matches the schema; a schema that cannot be followed exactly
// enough for that is refused, with the place of the keyword.
import { describe, HeedError } from "../errors.js";
import type { JsonSchema } from "../json-schema.js";
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
  oneOfTexts,
} from "./expression.js";
import {
  anyArray,
  anyObject,
  anyString,
  anyValue,
  arrayOf,
  boolean,
  colon,
  integer,
  jsonLiteral,
  keyCharacter,
  list,
  nullValue,
  number,
  objectOf,
  quoted,
  separator,
  stringCharacter,
  stringOf,
} from "./json-expressions.js";
import { integersBetween, numbersBetween } from "./number-range.js";
import { regularExpression } from "./regular-expression.js";
import { merged, resolved, typesOf } from "./schema-parts.js";
import { stringFormats } from "./string-formats.js";
import { spend } from "./work.js";

const annotations = [
  ...["title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions", "$anchor"],
  ...["deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding"],
];

/** Keywords that each type of a value knows, besides those that all of them do. */
const keywords: Readonly<Record<string, readonly string[]>> = {
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  array: ["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "additionalItems"],
  object: ["properties", "required", "additionalProperties", "minProperties", "maxProperties"],
  boolean: [],
  null: [],
};
const shared = ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", ...annotations];
const known = new Set([...shared, ...Object.values(keywords).flat()]);

/** Largest number of characters or items that a schema may ask for. */
const mostCount = 100_000;

/**
 * Returns the JSON texts of a schema.
 *
 * @throws ERR_ARGUMENT with the place, if a part of the schema is invalid or not supported.
 */
export function schemaExpression(schema: JsonSchema | boolean): Expression {
  return new SchemaReader(schema).read();
}

class SchemaReader {
  readonly #root: JsonSchema | boolean;
  readonly #rules = new Map<string, Rule>();

  constructor(root: JsonSchema | boolean) {
    this.#root = root;
  }

  read(): Expression {
    return this.#value(this.#root, "#");
  }

  #value(given: unknown, place: string): Expression {
    spend(4);
    if (given === true) return anyValue;
    if (given === false) return never;
    if (typeof given !== "object" || given === null || Array.isArray(given))
      throw invalid(place, "a schema (an object or a boolean)", given);
    const schema = given as JsonSchema;
    if (schema.$ref !== undefined) return this.#reference(schema, place);
    const names = Object.keys(schema);
    spend(names.length);
    const unknown = names.find((name) => !known.has(name) && !name.startsWith("x-"));
    if (unknown !== undefined) throw unsupported(`${place}/${unknown}`);
    if (schema.allOf !== undefined) return this.#value(this.#all(schema, place), `${place}/allOf`);
    for (const name of ["anyOf", "oneOf"] as const)
      if (schema[name] !== undefined) return this.#some(schema, name, place);
    if ("const" in schema) return this.#constants([schema.const], schema, `${place}/const`);
    if (schema.enum !== undefined) return this.#constants(schema.enum, schema, `${place}/enum`);
    const types = typesOf(schema, place);
    return choice(...types.map((type) => this.#typed(type, schema, place)));
  }

  /** Returns the rule of a schema that is used by its name. */
  #reference(schema: JsonSchema, place: string): Expression {
    const { $ref, ...others } = schema;
    const assertion = Object.keys(others).find((name) => !annotations.includes(name));
    const target = resolved(this.#root, $ref, `${place}/$ref`);
    if (assertion !== undefined) return this.#value(merged([others, target as JsonSchema], `${place}/$ref`), place);
    const name = $ref as string;
    const found = this.#rules.get(name);
    if (found) return found;
    const made = rule(name, empty);
    this.#rules.set(name, made);
    made.body = this.#value(target, name);
    return made;
  }

  #all({ allOf, ...others }: JsonSchema, place: string): JsonSchema {
    if (!Array.isArray(allOf) || allOf.length === 0) throw invalid(`${place}/allOf`, "an array of schemas", allOf);
    const parts = allOf.map((part: unknown, i) => this.#target(part, `${place}/allOf/${i}`));
    return merged([others, ...parts], `${place}/allOf`);
  }

  /** Returns the schema that a schema with only a reference stands for. */
  #target(schema: unknown, place: string): JsonSchema {
    const { $ref } = Object(schema) as { $ref?: unknown };
    const found = $ref === undefined ? schema : resolved(this.#root, $ref, `${place}/$ref`);
    if (typeof found !== "object" || found === null) throw invalid(place, "a schema that is an object", found);
    return found as JsonSchema;
  }

  #some(schema: JsonSchema, name: "anyOf" | "oneOf", place: string): Expression {
    const { [name]: given, ...others } = schema;
    if (!Array.isArray(given) || given.length === 0) throw invalid(`${place}/${name}`, "an array of schemas", given);
    const asserts = Object.keys(others).some((key) => !annotations.includes(key));
    const options = (given as unknown[]).map((option, i) => {
      const at = `${place}/${name}/${i}`;
      return asserts ? merged([others, this.#target(option, at)], at) : option;
    });
    if (name === "oneOf") this.#checkDisjoint(options, `${place}/oneOf`);
    return choiceOf(options.map((option, i) => this.#value(option, `${place}/${name}/${i}`)));
  }

  /** Checks that no value matches two of the options. */
  #checkDisjoint(options: readonly unknown[], place: string): void {
    if (areDifferent(options)) return;
    for (const [i, a] of options.entries())
      for (const b of options.slice(i + 1))
        if (!this.#disjoint(a, b, 0))
          throw unsupported(place, "options of which a value can match two; anyOf allows that");
  }

  #disjoint(a: unknown, b: unknown, depth: number): boolean {
    spend(4);
    const [x, y] = [a, b].map((one) => this.#target(one, "#")) as [JsonSchema, JsonSchema];
    const [own, other] = [constantsOf(x), constantsOf(y)];
    if (own && other) {
      spend(own.length + other.length);
      const texts = new Set(own.map((value) => JSON.stringify(value)));
      return !other.some((value) => texts.has(JSON.stringify(value)));
    }
    const theirs = possibleTypes(y);
    const common = possibleTypes(x).filter((type) => theirs.includes(type));
    if (common.length === 0) return true;
    if (common.join() !== "object" || depth > 4) return false;
    const required = (one: JsonSchema): unknown[] => (Array.isArray(one.required) ? (one.required as unknown[]) : []);
    const properties = (one: JsonSchema): JsonSchema => Object(one.properties ?? {}) as JsonSchema;
    const others = new Set(required(y));
    spend(required(x).length + others.size);
    return required(x).some((key) => {
      const [first, second] = [properties(x)[key as string], properties(y)[key as string]];
      return others.has(key) && isSchema(first) && isSchema(second) && this.#disjoint(first, second, depth + 1);
    });
  }

  #constants(values: unknown, schema: JsonSchema, place: string): Expression {
    if (!Array.isArray(values) || values.length === 0) throw invalid(place, "an array of values", values);
    spend(2 * values.length);
    const asserted = Object.keys(schema).find((name) => !["enum", "const", "type", ...annotations].includes(name));
    if (asserted !== undefined) throw unsupported(place, `${asserted} beside it`);
    const types = schema.type === undefined ? null : typesOf(schema, place);
    const fitting = (values as unknown[]).filter(
      (value) => types === null || types.some((type) => hasType(value, type)),
    );
    const isPlainValue = (value: unknown): boolean => typeof value !== "object" || value === null;
    const plain = fitting.filter(isPlainValue);
    const others = fitting.filter((value) => !isPlainValue(value)).map(jsonLiteral);
    const texts = plain.map((value) => JSON.stringify(value));
    return choiceOf([...(texts.length > 0 ? [oneOfTexts(texts)] : []), ...others]);
  }

  #typed(type: string, schema: JsonSchema, place: string): Expression {
    if (type === "string") return this.#string(schema, place);
    if (type === "integer" || type === "number") return this.#number(type, schema, place);
    if (type === "array") return this.#array(schema, place);
    if (type === "object") return this.#object(schema, place);
    return type === "boolean" ? boolean : nullValue;
  }

  #string(schema: JsonSchema, place: string): Expression {
    const { pattern, format } = schema;
    const [least, most] = bounds(schema, "minLength", "maxLength", place);
    const given = [pattern, format].filter((one) => one !== undefined);
    if (given.length === 0) return least > most ? never : stringOf(least, most);
    if (given.length > 1) throw unsupported(`${place}/format`, "pattern beside it");
    if (least > 0 || most < Infinity)
      throw unsupported(
        `${place}/${least > 0 ? "minLength" : "maxLength"}`,
        `${pattern === undefined ? "format" : "pattern"} beside it`,
      );
    const name = pattern === undefined ? "format" : "pattern";
    const source = pattern ?? stringFormats[format as string];
    if (typeof source !== "string") {
      if (name === "pattern") throw invalid(`${place}/pattern`, "a regular expression", pattern);
      throw unsupported(
        `${place}/format`,
        `the format ${describe(format)}; those are ${Object.keys(stringFormats).join(", ")}`,
      );
    }
    return quoted(
      regularExpression(source, { character: stringCharacter, search: true, what: `schema at ${place}/${name}` }),
    );
  }

  #number(type: "integer" | "number", schema: JsonSchema, place: string): Expression {
    const limit = (name: string, otherwise: number): number => {
      const value = schema[name] ?? otherwise;
      if (typeof value !== "number") throw invalid(`${place}/${name}`, "a number", value);
      return value;
    };
    const { multipleOf } = schema;
    if (multipleOf !== undefined && !(multipleOf === 1 && type === "integer")) throw unsupported(`${place}/multipleOf`);
    const [low, high] = [limit("minimum", -Infinity), limit("maximum", Infinity)];
    const [above, below] = [limit("exclusiveMinimum", -Infinity), limit("exclusiveMaximum", Infinity)];
    if ([low, above].every((one) => one === -Infinity) && [high, below].every((one) => one === Infinity))
      return type === "integer" ? integer : number;
    // An integer above a bound is at least the next one; numbers between the two are left out.
    const first = Math.max(low, Math.floor(above) + 1);
    const last = Math.min(high, Math.ceil(below) - 1);
    const found = type === "integer" ? integersBetween(first, last) : numbersBetween(first, last);
    if (found === never) throw unsupported(place, "bounds between which there is no integer");
    return found;
  }

  #array(schema: JsonSchema, place: string): Expression {
    const [least, most] = bounds(schema, "minItems", "maxItems", place);
    const { items = true, prefixItems = [], uniqueItems = false } = schema;
    if (schema.additionalItems !== undefined) throw unsupported(`${place}/additionalItems`);
    if (Array.isArray(items)) throw unsupported(`${place}/items`, "an array; use prefixItems");
    if (!Array.isArray(prefixItems)) throw invalid(`${place}/prefixItems`, "an array of schemas", prefixItems);
    if (uniqueItems !== false && most > 1) throw unsupported(`${place}/uniqueItems`);
    if (least > most) return never;
    if (prefixItems.length === 0 && items === true && least === 0 && most === Infinity) return anyArray;
    const item = this.#named(items, `${place}/items`);
    const first = (prefixItems as unknown[]).map((one, i) => this.#value(one, `${place}/prefixItems/${i}`));
    if (first.length === 0)
      return item === never ? (least > 0 ? never : arrayOf(empty)) : arrayOf(list(item, least, most));
    return arrayOf(this.#tuple(first, item, least, most));
  }

  /** Returns the items of an array whose first ones have schemas of their own. */
  #tuple(first: readonly Expression[], item: Expression, least: number, most: number): Expression {
    const rest =
      item === never
        ? empty
        : repeat(sequence(separator, item), Math.max(0, least - first.length), Math.max(0, most - first.length));
    let after: Expression = least > first.length && item === never ? never : most > first.length ? rest : empty;
    for (let i = first.length - 1; i >= 0; i--) {
      if (i >= most) {
        after = empty;
        continue;
      }
      const more = sequence(...(i === 0 ? [] : [separator]), first[i]!, after);
      after = i >= least ? optionalPart(more) : more;
    }
    return after;
  }

  #object(schema: JsonSchema, place: string): Expression {
    const { properties = {}, required = [] } = schema;
    if (typeof properties !== "object" || properties === null)
      throw invalid(`${place}/properties`, "an object", properties);
    if (!Array.isArray(required) || required.some((key) => typeof key !== "string"))
      throw invalid(`${place}/required`, "an array of names", required);
    const [least, most] = bounds(schema, "minProperties", "maxProperties", place);
    const names = Object.keys(properties);
    const demanded = new Set(required as string[]);
    spend(2 * (names.length + demanded.size));
    // Without properties of its own, an object may have any; otherwise none besides them unless the schema says so.
    const additional = schema.additionalProperties ?? names.length === 0;
    const missing = [...demanded].filter((name) => !Object.hasOwn(properties, name));
    if (missing.length > 0 && additional === false) return never;
    const members = [
      ...names.map((name) => ({ name, schema: (properties as JsonSchema)[name], at: `${place}/properties/${name}` })),
      ...missing.map((name) => ({ name, schema: additional, at: `${place}/additionalProperties` })),
    ].map(({ name, schema: member, at }) => ({
      name,
      needed: demanded.has(name),
      value: this.#named(member, at),
    }));
    if (least > members.filter(({ needed }) => needed).length) throw unsupported(`${place}/minProperties`);
    if (members.some(({ needed, value }) => needed && value === never)) return never;
    const possible = members.filter(({ value }) => value !== never);
    if (possible.filter(({ needed }) => !needed).length > mostOptional)
      throw unsupported(`${place}/properties`, `more than ${mostOptional} properties that are not required`);
    if (most < Infinity && (additional !== false || most < possible.length))
      throw unsupported(`${place}/maxProperties`);
    if (possible.length === 0 && additional === true && names.length === 0) return anyObject;
    const others =
      additional === false
        ? null
        : this.#additional(
            additional,
            members.map(({ name }) => name),
            place,
          );
    return objectOf(membersFrom(possible, others));
  }

  /** Returns a member whose name is none of these. */
  #additional(schema: unknown, names: readonly string[], place: string): Expression | null {
    const value = this.#named(schema, `${place}/additionalProperties`);
    if (value === never) return null;
    const name = names.length === 0 ? anyString : quoted(otherName(names.filter(isPlain)));
    return sequence(name, colon, value);
  }

  /** Returns the values of a schema as a rule, which the automaton can call. */
  #named(schema: unknown, place: string): Expression {
    const found = this.#value(schema, place);
    return found.kind === "rule" || found === never ? found : rule(place, found);
  }
}

/**
 * Largest number of an object's properties that are not required. Each of them may come next, and all of those are
 * looked at for each token.
 */
const mostOptional = 256;

interface Member {
  readonly name: string;
  readonly needed: boolean;
  readonly value: Expression;
}

/** Returns the members of an object in their order, without those that are not needed or with them. */
function membersFrom(members: readonly Member[], others: Expression | null): Expression {
  const more = others === null ? empty : repeat(sequence(separator, others), 0);
  // What follows a member, and what comes at the beginning.
  let after: Expression = more;
  let first: Expression = others === null ? empty : list(others, 0, Infinity);
  for (const { name, needed, value } of [...members].reverse()) {
    const member = sequence(literal(JSON.stringify(name)), colon, value);
    const [next, start] = [sequence(separator, member, after), sequence(member, after)];
    first = rule(`${name} and what follows`, needed ? start : choice(start, first));
    after = rule(`, ${name} and what follows`, needed ? next : choice(next, after));
  }
  return first;
}

/** Returns what names are written as that have no escape and are none of these. */
function otherName(names: readonly string[]): Expression {
  const rest = repeat(keyCharacter([]), 0);
  const byFirst = new Map<string, string[]>();
  for (const name of names.filter((one) => one !== "")) {
    const first = String.fromCodePoint(name.codePointAt(0)!);
    const others = byFirst.get(first);
    if (others) others.push(name.slice(first.length));
    else byFirst.set(first, [name.slice(first.length)]);
  }
  spend(names.length + 8 * byFirst.size);
  const branches = [...byFirst].map(([first, others]) => sequence(literal(first), otherName(others)));
  const other = sequence(keyCharacter([...byFirst.keys()]), rest);
  return choiceOf([...(names.includes("") ? [] : [empty]), other, ...branches]);
}

/** Returns true if a name is written without escapes. */
function isPlain(name: string): boolean {
  return JSON.stringify(name) === `"${name}"`;
}

function bounds(schema: JsonSchema, low: string, high: string, place: string): readonly [number, number] {
  const read = (name: string, otherwise: number): number => {
    const value = schema[name] ?? otherwise;
    if (value === Infinity) return Infinity;
    if (!Number.isSafeInteger(value) || (value as number) < 0)
      throw invalid(`${place}/${name}`, "a whole number", value);
    if ((value as number) > mostCount) throw unsupported(`${place}/${name}`, `more than ${mostCount}`);
    return value as number;
  };
  return [read(low, 0), read(high, Infinity)];
}

/** Returns true if all options are different constants, of which there may be many. */
function areDifferent(options: readonly unknown[]): boolean {
  const constants = options.map((option) => (isSchema(option) ? constantsOf(option) : null));
  if (constants.includes(null)) return false;
  const texts = constants.flatMap((values) => [...new Set(values!.map((value) => JSON.stringify(value)))]);
  spend(2 * texts.length);
  return new Set(texts).size === texts.length;
}

function constantsOf(schema: JsonSchema): unknown[] | null {
  if ("const" in schema) return [schema.const];
  return Array.isArray(schema.enum) ? (schema.enum as unknown[]) : null;
}

/** Returns the types that a value of a schema can have; an integer is a number too. */
function possibleTypes(schema: JsonSchema): string[] {
  const constants = constantsOf(schema);
  if (constants)
    return distinct(constants, (value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value));
  if (schema.type === undefined) return ["string", "number", "array", "object", "boolean", "null"];
  return distinct([schema.type].flat(), (type) => (type === "integer" ? "number" : (type as string)));
}

/** Returns the different types of values, of which there may be many. */
function distinct(values: readonly unknown[], typeOf: (value: unknown) => string): string[] {
  spend(values.length);
  return [...new Set(values.map(typeOf))];
}

function isSchema(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null;
}

function hasType(value: unknown, type: string): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return typeof value === type;
}

function invalid(place: string, wanted: string, value: unknown): HeedError {
  return new HeedError("ERR_ARGUMENT", `schema at ${place}: expected ${wanted}, got ${describe(value)}`);
}

function unsupported(place: string, what = "this keyword"): HeedError {
  return new HeedError("ERR_ARGUMENT", `schema at ${place}: heed does not support ${what}`);
}
