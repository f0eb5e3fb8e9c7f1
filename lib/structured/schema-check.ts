// Whether a value matches a schema. The values of "const" and "enum" are checked against all other keywords with it.
import { HeedError } from "../util/errors.js";
import type { JsonSchema } from "../util/json-schema.js";
import { placeName } from "./place-name.js";
import { languageOfSearch, readPattern } from "./regular-expression.js";
import { isObject, type Located, type SchemaDocument, type SchemaNode, unsupported } from "./schema-document.js";
import { typesOf } from "./schema-keywords.js";
import { patternedFormats } from "./string-formats.js";
import type { Language } from "./language.js";
import { Languages } from "./text-language.js";
import { spend, withoutPauses } from "./work.js";

/** Most schemas within schemas. */
const mostDepth = 200;

/** Checks values against the schemas of a document. */
export class SchemaCheck {
  readonly #document: SchemaDocument;
  readonly #make = new Languages();
  readonly #patterns = new Map<string, Language>();
  readonly #sets = new Map<readonly unknown[], ReadonlySet<unknown>>();

  constructor(document: SchemaDocument) {
    this.#document = document;
  }

  /**
   * Returns true if a value matches a node.
   *
   * @throws ERR_ARGUMENT if a keyword cannot be checked.
   */
  matches(value: unknown, node: SchemaNode, depth = 0): boolean {
    spend(4);
    const { schema, place, made } = node;
    if (depth > mostDepth)
      throw new HeedError(
        "ERR_ARGUMENT",
        `${placeName(`schema at ${place}`)}: expected parts that are nested less deeply, got too many levels`,
      );
    if (made?.except?.some((one) => areEqual(one, value))) return false;
    if (
      made?.notPattern !== undefined &&
      typeof value === "string" &&
      this.matchesPattern(value, made.notPattern, place)
    )
      return false;
    if (made?.unevaluated && typeof value === "object" && value !== null)
      throw unsupported(place, "unevaluatedProperties and unevaluatedItems beside enum and const");
    if (schema.type !== undefined && !typesOf(schema).some((type) => hasType(value, type))) return false;
    if ("const" in schema && !areEqual(schema.const, value)) return false;
    if (Array.isArray(schema.enum) && !this.#isOneOf(value, schema.enum as unknown[])) return false;
    if (typeof value === "string" && !this.#string(value, node)) return false;
    if (typeof value === "number" && !isInRange(value, schema)) return false;
    if (Array.isArray(value) && !this.#array(value as unknown[], node, depth)) return false;
    if (isObject(value) && !this.#object(value, node, depth)) return false;
    return this.#applied(value, node, depth);
  }

  #isOneOf(value: unknown, list: readonly unknown[]): boolean {
    if (typeof value === "object" && value !== null) return list.some((one) => areEqual(one, value));
    let set = this.#sets.get(list);
    if (!set) this.#sets.set(list, (set = new Set(list)));
    return set.has(value);
  }

  /** Returns true if a value matches a schema at a place. */
  #part(value: unknown, schema: unknown, { place, base }: SchemaNode, name: string, depth: number): boolean {
    return this.#located(value, { value: schema, place: `${place}/${name}`, base }, depth);
  }

  #located(value: unknown, schema: Located, depth: number): boolean {
    const node = this.#document.node(schema);
    return typeof node === "boolean" ? node : this.matches(value, node, depth + 1);
  }

  /** Checks the keywords that name other schemas for the same value. */
  #applied(value: unknown, node: SchemaNode, depth: number): boolean {
    const { schema, place, base } = node;
    for (const name of ["$ref", "$dynamicRef", "$recursiveRef"])
      if (schema[name] !== undefined) {
        const target = this.#document.resolve(schema[name], { place: `${place}/${name}`, base });
        if (!this.#located(value, target, depth)) return false;
      }
    const fits = (part: unknown, name: string): boolean => this.#part(value, part, node, name, depth);
    const list = (name: string): unknown[] => (schema[name] ?? []) as unknown[];
    if (!list("allOf").every((part, i) => fits(part, `allOf/${i}`))) return false;
    if (schema.anyOf !== undefined && !list("anyOf").some((part, i) => fits(part, `anyOf/${i}`))) return false;
    if (schema.oneOf !== undefined && list("oneOf").filter((part, i) => fits(part, `oneOf/${i}`)).length !== 1)
      return false;
    if (schema.not !== undefined && fits(schema.not, "not")) return false;
    if (schema.if !== undefined) {
      const name = fits(schema.if, "if") ? "then" : "else";
      if (schema[name] !== undefined && !fits(schema[name], name)) return false;
    }
    for (const name of ["unevaluatedProperties", "unevaluatedItems"])
      if (name in schema && typeof value === "object" && value !== null)
        throw unsupported(`${place}/${name}`, "this keyword beside enum and const");
    return true;
  }

  #string(value: string, { schema, place }: SchemaNode): boolean {
    const { minLength = 0, maxLength = Infinity, pattern, format } = schema as Record<string, never>;
    const length = Array.from(value).length;
    spend(length);
    if (length < minLength || length > maxLength) return false;
    if (pattern !== undefined && !this.matchesPattern(value, pattern, `${place}/pattern`)) return false;
    const known = format === undefined ? undefined : patternedFormats[format];
    return known === undefined || this.matchesPattern(value, `^(?:${known})$`, `${place}/format`);
  }

  /** Returns true if a regular expression matches a part of a text. */
  matchesPattern(value: string, source: string, place: string): boolean {
    let language = this.#patterns.get(source);
    if (!language) {
      const what = `schema at ${place}`;
      const pattern = withoutPauses(readPattern(source, what));
      language = withoutPauses(languageOfSearch(source, pattern, this.#make, what));
      this.#patterns.set(source, language);
    }
    return this.#make.matches(language, value);
  }

  #array(value: readonly unknown[], node: SchemaNode, depth: number): boolean {
    const { schema } = node;
    const { minItems = 0, maxItems = Infinity, uniqueItems, contains } = schema as Record<string, never>;
    if (value.length < minItems || value.length > maxItems) return false;
    if (uniqueItems === true) {
      spend(value.length ** 2);
      if (value.some((one, i) => value.slice(0, i).some((other) => areEqual(one, other)))) return false;
    }
    if (contains !== undefined) {
      const { minContains = 1, maxContains = Infinity } = schema as Record<string, never>;
      const count = value.filter((one) => this.#part(one, contains, node, "contains", depth)).length;
      if (count < minContains || count > maxContains) return false;
    }
    return value.every((one, i) => {
      const part = itemAt(schema, i, this.#document);
      return part === undefined || this.#part(one, part, node, "items", depth);
    });
  }

  #object(value: JsonSchema, node: SchemaNode, depth: number): boolean {
    const { schema } = node;
    const names = Object.keys(value);
    const { minProperties = 0, maxProperties = Infinity, propertyNames } = schema as Record<string, never>;
    if (names.length < minProperties || names.length > maxProperties) return false;
    if (!((schema.required ?? []) as string[]).every((name) => Object.hasOwn(value, name))) return false;
    for (const name of names) {
      if (propertyNames !== undefined && !this.#part(name, propertyNames, node, "propertyNames", depth)) return false;
      const parts = this.partsFor(name, node);
      if (!parts.every((part) => this.#located(value[name], part, depth))) return false;
    }
    const own = (part: unknown, at: string): boolean => this.#part(value, part, node, at, depth);
    for (const keyword of ["dependencies", "dependentRequired", "dependentSchemas"])
      for (const [name, needed] of Object.entries((schema[keyword] ?? {}) as JsonSchema)) {
        if (!Object.hasOwn(value, name)) continue;
        if (Array.isArray(needed)) {
          if (!(needed as string[]).every((one) => Object.hasOwn(value, one))) return false;
        } else if (!own(needed, `${keyword}/${name}`)) return false;
      }
    return true;
  }

  /** Returns the schemas that a node has for the value of a property. */
  partsFor(name: string, { schema, place, base }: SchemaNode): readonly Located[] {
    const { properties, patternProperties, additionalProperties } = schema as Record<string, JsonSchema | undefined>;
    const found: Located[] = [];
    const add = (value: unknown, at: string): void => void found.push({ value, place: `${place}/${at}`, base });
    if (properties && Object.hasOwn(properties, name)) add(properties[name], `properties/${name}`);
    for (const [source, part] of Object.entries(patternProperties ?? {}))
      if (this.matchesPattern(name, source, `${place}/patternProperties`)) add(part, `patternProperties/${source}`);
    if (found.length === 0 && additionalProperties !== undefined) add(additionalProperties, "additionalProperties");
    return found;
  }
}

/** Returns the schema of an array's item; undefined if there is none. */
export function itemAt(schema: JsonSchema, i: number, document: SchemaDocument): unknown {
  const [first, rest] = itemsOf(schema, document);
  return i < first.length ? first[i] : rest;
}

/** Returns the schemas of the first items of an array, and that of all others. */
export function itemsOf(schema: JsonSchema, { draft }: SchemaDocument): readonly [readonly unknown[], unknown] {
  const { items, prefixItems, additionalItems } = schema;
  if (Array.isArray(items)) return [items as unknown[], additionalItems];
  return [draft === 2020 && Array.isArray(prefixItems) ? (prefixItems as unknown[]) : [], items];
}

function isInRange(value: number, schema: JsonSchema): boolean {
  const { minimum = -Infinity, maximum = Infinity, multipleOf } = schema as Record<string, number | undefined>;
  const { exclusiveMinimum = false, exclusiveMaximum = false } = schema as Record<string, number | boolean | undefined>;
  if (value < minimum || value > maximum) return false;
  if (exclusiveMinimum !== false && value <= (exclusiveMinimum === true ? minimum : exclusiveMinimum)) return false;
  if (exclusiveMaximum !== false && value >= (exclusiveMaximum === true ? maximum : exclusiveMaximum)) return false;
  if (multipleOf === undefined) return true;
  // Every large enough quotient is a whole number, while remainders are exact.
  return Number.isInteger(multipleOf) ? value % multipleOf === 0 : Number.isInteger(value / multipleOf);
}

export function hasType(value: unknown, type: string): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isObject(value);
  return typeof value === type;
}

/** Returns true if two JSON values are equal. */
export function areEqual(a: unknown, b: unknown): boolean {
  spend(1);
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((one, i) => areEqual(one, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && areEqual(a[name], b[name]))
  );
}
