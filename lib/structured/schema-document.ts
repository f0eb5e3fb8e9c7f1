// The parts of a schema, and the places that references name: by a JSON pointer, an anchor or the "$id" of a part.
import { describe, HeedError } from "../util/errors.js";
import type { JsonSchema } from "../util/json-schema.js";
import type { Steps } from "../util/turns.js";
import { placeName } from "./place-name.js";
import { isPauseDue, spend } from "./work.js";

/** Version of JSON Schema, by the year from 2019 on. */
export type Draft = 3 | 4 | 6 | 7 | 2019 | 2020;

/** A part of a schema that is one itself. */
export interface SchemaNode {
  readonly id: number;
  readonly schema: JsonSchema;
  /** JSON pointer of the part, for errors. */
  readonly place: string;
  /** URI against which references are resolved. */
  readonly base: string;
  readonly made: MadeRules | null;
}

/** Demands on a value besides the keywords, where heed has made a node. */
export interface MadeRules {
  /** Values that are excluded. */
  readonly except?: readonly unknown[];
  /** Regular expression that a string must not match. */
  readonly notPattern?: string;
  /** Schemas of what none of these nodes has evaluated. */
  readonly unevaluated?: {
    readonly of: readonly SchemaNode[];
    readonly properties?: unknown;
    readonly items?: unknown;
  };
}

/** A schema that has not been looked at, and where it is. */
export interface Located {
  readonly value: unknown;
  readonly place: string;
  readonly base: string;
}

/** Keywords whose values are schemas, lists of schemas or schemas by names. */
const single = [
  ...["items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"],
  ...["unevaluatedItems", "unevaluatedProperties", "contentSchema"],
];
const lists = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const maps = ["properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies"];

/** Keywords that only describe a value. */
const descriptions = ["title", "description", "default", "examples", "$comment", "deprecated"];
const undescribed = Object.fromEntries(descriptions.map((name) => [name, undefined]));

const unnamed = "https://schema.invalid/";

/** Largest schema, as JSON, of which equal ones are found. */
const mostText = 1000;

export class SchemaDocument {
  readonly draft: Draft;
  readonly #root: unknown;
  readonly #bases = new Map<object, string>();
  readonly #resources = new Map<string, Located>();
  readonly #anchors = new Map<string, Located | "several">();
  readonly #dynamic = new Map<string, number>();
  readonly #nodes = new Map<object, SchemaNode>();
  readonly #equal = new Map<string, SchemaNode>();
  #count = 0;

  private constructor(root: unknown) {
    this.draft = draftOf(root);
    this.#root = root;
  }

  /** Returns a document in which the names of all parts have been found. */
  static *of(root: unknown): Steps<SchemaDocument> {
    const document = new SchemaDocument(root);
    yield* document.#find(root);
    return document;
  }

  get root(): Located {
    const value = this.#root;
    return { value, place: "#", base: isObject(value) ? this.#bases.get(value)! : unnamed };
  }

  /** Finds the names that the parts of the schema have. */
  *#find(root: unknown): Steps<void> {
    const pending: Located[] = [{ value: root, place: "#", base: unnamed }];
    this.#resources.set(unnamed, pending[0]!);
    for (let one = pending.pop(); one; one = pending.pop()) {
      const { value, place } = one;
      if (!isObject(value) || this.#bases.has(value)) continue;
      spend(1);
      if (isPauseDue()) yield;
      const base = this.#named(value, one);
      this.#bases.set(value, base);
      const add = (part: unknown, name: string): void =>
        void pending.push({ value: part, place: `${place}/${name}`, base });
      for (const name of single) if (isObject(value[name])) add(value[name], name);
      for (const name of lists) {
        const list = value[name];
        if (Array.isArray(list)) for (const [i, part] of list.entries()) add(part, `${name}/${i}`);
      }
      for (const name of maps) {
        const map = value[name];
        if (isObject(map)) for (const [key, part] of Object.entries(map)) add(part, `${name}/${escaped(key)}`);
      }
    }
  }

  /** Notes the names of a schema and returns its base. */
  #named(schema: JsonSchema, { value, place, base }: Located): string {
    // Up to draft 7, what stands beside a reference means nothing.
    if (this.draft <= 7 && typeof schema.$ref === "string") return base;
    const id = this.draft === 4 || this.draft === 3 ? (schema.id ?? schema.$id) : schema.$id;
    let own = base;
    if (typeof id === "string") {
      const [address, fragment = ""] = split(absolute(id, base) ?? base);
      if (!id.startsWith("#")) {
        own = address;
        this.#resources.set(own, { value, place, base: own });
      }
      if (fragment !== "" && !fragment.startsWith("/")) this.#anchor(`${own}#${fragment}`, { value, place, base: own });
    }
    for (const name of ["$anchor", "$dynamicAnchor"] as const) {
      const anchor = schema[name];
      if (typeof anchor !== "string") continue;
      this.#anchor(`${own}#${anchor}`, { value, place, base: own });
      if (name === "$dynamicAnchor") this.#dynamic.set(anchor, (this.#dynamic.get(anchor) ?? 0) + 1);
    }
    if (schema.$recursiveAnchor === true) this.#dynamic.set("", (this.#dynamic.get("") ?? 0) + 1);
    return own;
  }

  #anchor(name: string, at: Located): void {
    this.#anchors.set(name, this.#anchors.has(name) ? "several" : at);
  }

  /** Returns the number of schemas with a dynamic anchor. */
  dynamicAnchors(name: string): number {
    return this.#dynamic.get(name) ?? 0;
  }

  /**
   * Returns the schema of a place. Small schemas that are equal but for their descriptions are the same node.
   *
   * @throws ERR_ARGUMENT if there is no schema.
   */
  node({ value, place, base }: Located): SchemaNode | boolean {
    if (typeof value === "boolean") return value;
    if (!isObject(value)) throw invalid(place, "a schema (an object or a boolean)", value);
    const known = this.#nodes.get(value);
    if (known) return known;
    const own = this.#bases.get(value) ?? base;
    const text = shortText(descriptions.some((name) => name in value) ? { ...value, ...undescribed } : value, mostText);
    spend((text?.length ?? mostText) / 256);
    const key = text === null ? null : `${own} ${text}`;
    const made = (key === null ? undefined : this.#equal.get(key)) ?? this.make(value, place, own, null);
    this.#nodes.set(value, made);
    if (key !== null) this.#equal.set(key, made);
    return made;
  }

  /** Returns a node that heed has made. */
  make(schema: JsonSchema, place: string, base: string, made: MadeRules | null): SchemaNode {
    return { id: this.#count++, schema, place, base, made };
  }

  /**
   * Returns the schema that a reference names.
   *
   * @throws ERR_ARGUMENT with the place of the reference, if there is none within the document.
   */
  resolve(reference: unknown, { place, base }: { place: string; base: string }): Located {
    const target = typeof reference === "string" ? absolute(reference, base) : null;
    const [address, fragment = ""] = split(target ?? "");
    const resource = target === null ? undefined : this.#resources.get(address);
    if (!resource) throw invalid(place, 'a reference within the schema, such as "#/$defs/name"', reference);
    if (fragment === "") return resource;
    const found = fragment.startsWith("/")
      ? this.#pointed(resource, fragment, place)
      : this.#anchors.get(`${address}#${decoded(fragment, place)}`);
    if (found === "several")
      throw invalid(place, "a reference to one schema", `${String(reference)}, which is the name of several`);
    if (!found)
      throw new HeedError(
        "ERR_ARGUMENT",
        `${placeName(`schema at ${place}`)}: expected a schema at ${placeName(String(reference))}, got none`,
      );
    return found;
  }

  /** Returns the value at a JSON pointer within a resource. */
  #pointed(resource: Located, pointer: string, place: string): Located | null {
    let { value: found, place: at, base } = resource;
    for (const part of pointer.split("/").slice(1)) {
      const name = decoded(part, place).replaceAll("~1", "/").replaceAll("~0", "~");
      const within = typeof found === "object" && found !== null && Object.hasOwn(found, name);
      if (!within) return null;
      found = (found as JsonSchema)[name];
      if (isObject(found)) base = this.#bases.get(found) ?? base;
      at += `/${escaped(name)}`;
    }
    return { value: found, place: at, base };
  }
}

function draftOf(root: unknown): Draft {
  const name = isObject(root) && typeof root.$schema === "string" ? root.$schema : "";
  const [, draft] = /draft[-/]0?(\d+)/.exec(name) ?? [];
  const known: readonly Draft[] = [3, 4, 6, 7, 2019];
  return known.find((one) => one === Number(draft)) ?? 2020;
}

/** Returns a value as JSON; null if that has more than `most` characters, however large the value is. */
function shortText(value: unknown, most: number): string | null {
  if (typeof value === "string") return value.length > most ? null : JSON.stringify(value);
  if (typeof value !== "object" || value === null) return String(value);
  const isList = Array.isArray(value);
  let text = "";
  for (const name of Object.keys(value)) {
    const member: unknown = (value as JsonSchema)[name];
    if (member === undefined) continue;
    const left = most - text.length - (isList ? 0 : name.length);
    const part = left < 0 ? null : shortText(member, left);
    if (part === null) return null;
    text += isList ? `${part},` : `${JSON.stringify(name)}:${part},`;
  }
  return text.length > most ? null : isList ? `[${text}]` : `{${text}}`;
}

function absolute(reference: string, base: string): string | null {
  if (reference.startsWith("#")) return base + reference;
  try {
    return new URL(reference, base).href;
  } catch {
    return null;
  }
}

function split(uri: string): readonly [string, string?] {
  const at = uri.indexOf("#");
  return at === -1 ? [uri] : [uri.slice(0, at), uri.slice(at + 1)];
}

function escaped(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

function decoded(part: string, place: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new HeedError(
      "ERR_ARGUMENT",
      `${placeName(`schema at ${place}`)}: expected a part of a URI, got ${describe(part)}`,
      {
        cause,
      },
    );
  }
}

export function isObject(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function invalid(place: string, wanted: string, value: unknown): HeedError {
  return new HeedError(
    "ERR_ARGUMENT",
    `${placeName(`schema at ${place}`)}: expected ${wanted}, got ${describe(value)}`,
  );
}

export function unsupported(place: string, what = "this keyword"): HeedError {
  return new HeedError("ERR_ARGUMENT", `${placeName(`schema at ${place}`)}: heed does not support ${what}`);
}
