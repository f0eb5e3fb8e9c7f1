// JSON schemas as expressions. What is generated always matches the schema; a schema that cannot be followed exactly
// enough for that is refused, with the place of the keyword.
//
// Schemas that all have to match one value are read together: `SchemaTerms` finds the alternatives that their keywords
// allow, and what is left of an alternative are demands on the values of each type, which are joined here.
import { HeedError } from "../util/errors.js";
import type { JsonSchema } from "../util/json-schema.js";
import type { Steps } from "../util/turns.js";
import { anyOf, empty, type Expression, isText, likeness, never, oneOfTexts, rule, type Rule } from "./expression.js";
import { anyValue, boolean, jsonLiteral, nullValue } from "./json-expressions.js";
import { withoutEndless } from "./productive.js";
import { arrayExpression } from "./schema-array.js";
import { SchemaCheck } from "./schema-check.js";
import type { SchemaContext } from "./schema-context.js";
import { type Located, SchemaDocument, type SchemaNode, unsupported } from "./schema-document.js";
import { isAbout, type Type } from "./schema-keywords.js";
import { numberExpression } from "./schema-number.js";
import { objectExpression } from "./schema-object.js";
import { stringExpression, stringLanguage } from "./schema-string.js";
import { constantsOf, type Term, typesOfTerm } from "./schema-term.js";
import { SchemaTerms } from "./schema-terms.js";
import type { Language } from "./language.js";
import type { Languages } from "./text-language.js";
import { isPauseDue, spend } from "./work.js";

/** Options of `schemaExpression`. */
export interface SchemaOptions {
  /** True if a keyword or a format that no draft of JSON Schema knows is refused instead of ignored. @default false */
  strict?: boolean | undefined;
  /** True if only objects are meant, even if the schema names no type. @default false */
  object?: boolean | undefined;
}

/**
 * Returns the JSON texts of a schema.
 *
 * @throws ERR_ARGUMENT with the place, if a part of the schema is invalid or not supported.
 */
export function* schemaExpression(
  schema: JsonSchema | boolean,
  { strict = false, object = false }: SchemaOptions = {},
): Steps<Expression> {
  const document = yield* SchemaDocument.of(schema);
  const isObject: Located = { value: { type: "object" }, place: "#", base: document.root.base };
  const reader = new SchemaReader(document, strict);
  return yield* withoutEndless(yield* reader.value([document.root, ...(object ? [isObject] : [])]));
}

/** Returns the shortest list of constants that the schemas of a term have; null if they have none. */
function constantsOfTerm(term: Term): readonly unknown[] | null {
  const lists = term.map(({ schema }) => constantsOf(schema)).filter((list) => list !== null);
  return lists.sort((a, b) => a.length - b.length)[0] ?? null;
}

/** Levels below which two options are not compared. */
const mostTrialDepth = 4;

/**
 * Largest number of alternatives whose texts may begin alike, and of the ways in which they begin: all of them are followed
 * at once until a text has decided for one.
 */
const mostAlike = 128;
const mostWays = 2048;

/** Results for the schemas that have been read. */
interface Known {
  readonly terms: SchemaTerms;
  readonly values: Map<string, Expression>;
  readonly typed: Map<string, Expression>;
}

class SchemaReader implements SchemaContext {
  readonly document: SchemaDocument;
  readonly check: SchemaCheck;
  readonly #strict: boolean;
  #known: Known;
  /** Levels of schemas within the options that are being compared; null if none are. */
  #trial: number | null = null;

  constructor(document: SchemaDocument, strict: boolean) {
    this.document = document;
    this.check = new SchemaCheck(document);
    this.#strict = strict;
    this.#known = this.#nothing();
  }

  #nothing(): Known {
    const terms = new SchemaTerms(this.document, this.#strict, (schemas) => this.#isNever(schemas));
    return { terms, values: new Map<string, Expression>(), typed: new Map<string, Expression>() };
  }

  /** Returns the values that match all of the schemas. */
  *value(schemas: readonly Located[]): Steps<Expression> {
    spend(3 + schemas.length);
    if (isPauseDue()) yield;
    const ids = new Set<number>();
    const nodes: Located[] = [];
    for (const schema of schemas) {
      const node = this.document.node(schema);
      if (node === false) return never;
      if (node === true || ids.has(node.id)) continue;
      ids.add(node.id);
      nodes.push(schema);
    }
    if (nodes.length === 0) return anyValue;
    if (this.#trial !== null && this.#trial >= mostTrialDepth) return anyValue;
    const { values } = this.#known;
    const key = [...ids].sort((a, b) => a - b).join();
    const found = values.get(key);
    if (found) return found;
    const made: Rule = rule(nodes[0]!.place, empty);
    values.set(key, made);
    if (this.#trial !== null) this.#trial++;
    made.body = yield* this.#read(nodes);
    if (this.#trial !== null) this.#trial--;
    // A rule that others have found already stays one. Texts are parts of what is around them.
    const result = made.body === never || made.body.kind === "rule" || isText(made.body) ? made.body : made;
    values.set(key, result);
    return result;
  }

  *#read(schemas: readonly Located[]): Steps<Expression> {
    const { terms, typed } = this.#known;
    const options = new Set<Expression>();
    for (const term of yield* terms.of(schemas)) {
      if (isPauseDue()) yield;
      const constants = yield* this.#constants(term);
      if (constants) {
        options.add(constants);
        continue;
      }
      for (const type of typesOfTerm(term)) {
        const nodes = term.filter((node) => isAbout(node, type));
        const key = `${type},${nodes.map(({ id }) => id).join()}`;
        const found = typed.get(key) ?? (yield* this.#typed(type, nodes));
        typed.set(key, found);
        options.add(found);
      }
    }
    options.delete(never);
    if (options.size === 0) return never;
    const found = yield* anyOf([...options]);
    if (options.size > mostAlike) {
      const { options: count, ways } = likeness(found);
      if (count > mostAlike || ways > mostWays)
        throw unsupported(schemas[0]!.place, `a union of ${count} schemas whose values may begin alike`);
    }
    return found;
  }

  /** Returns the constants of a term that match all of its schemas; null if it has none. */
  *#constants(term: Term): Steps<Expression | null> {
    if (!constantsOfTerm(term)) return null;
    const fitting = (yield* this.#valuesOf(term))!;
    const isPlain = (value: unknown): boolean => typeof value !== "object" || value === null;
    const plain = fitting.filter(isPlain).map((value) => JSON.stringify(value));
    const options: Expression[] = plain.length > 0 ? [yield* oneOfTexts(plain)] : [];
    for (const value of fitting) if (!isPlain(value)) options.push(yield* jsonLiteral(value));
    return options.length === 0 ? never : yield* anyOf(options);
  }

  /** Returns the values of a term if it lists them, or its types have few; null if there may be any number. */
  *#valuesOf(term: Term): Steps<readonly unknown[] | null> {
    const types = typesOfTerm(term);
    const few = types.every((type) => type === "boolean" || type === "null");
    const listed = constantsOfTerm(term) ?? (few ? [true, false, null] : null);
    spend(listed?.length ?? 0);
    if (!listed) return null;
    const fitting: unknown[] = [];
    for (const value of listed) {
      if (isPauseDue()) yield;
      if (term.every((node) => this.check.matches(value, node))) fitting.push(value);
    }
    return fitting;
  }

  /** Returns the texts of the values that match all of the schemas, if they are few; null if they are not. */
  *textsOf(schemas: readonly Located[]): Steps<readonly string[] | null> {
    const texts = new Set<string>();
    for (const term of yield* this.#known.terms.of(schemas)) {
      const values = yield* this.#valuesOf(term);
      if (!values?.every((value) => typeof value !== "object" || value === null)) return null;
      for (const value of values) texts.add(JSON.stringify(value));
    }
    return [...texts];
  }

  /** Returns the strings that match all of the schemas as a language. */
  *language(schemas: readonly Located[], make: Languages): Steps<Language> {
    const options: Language[] = [];
    for (const term of yield* this.#known.terms.of(schemas)) {
      const values = constantsOfTerm(term) && (yield* this.#valuesOf(term));
      if (values) for (const value of values) if (typeof value === "string") options.push(make.text(value));
      if (values || !typesOfTerm(term).includes("string")) continue;
      const nodes = term.filter((node) => isAbout(node, "string"));
      options.push(
        yield* stringLanguage(
          nodes,
          nodes.flatMap(({ made }) => made?.except ?? []),
          make,
        ),
      );
    }
    return make.either(options);
  }

  *#typed(type: Type, nodes: readonly SchemaNode[]): Steps<Expression> {
    const excepted = nodes.flatMap(({ made }) => made?.except ?? []);
    if (type === "null") return excepted.includes(null) ? never : nullValue;
    if (type === "boolean") {
      const left = [true, false].filter((one) => !excepted.includes(one));
      return left.length === 2 ? boolean : left.length === 0 ? never : yield* oneOfTexts(left.map(String));
    }
    if (type === "string") return yield* stringExpression(nodes, excepted);
    if (type === "array") return yield* arrayExpression(nodes, excepted, this);
    if (type === "object") return yield* objectExpression(nodes, excepted, this);
    return yield* numberExpression(type, nodes, excepted);
  }

  /** Returns true if it is certain that no value matches all of the schemas. */
  *#isNever(schemas: readonly Located[]): Steps<boolean> {
    const [known, trial] = [this.#known, this.#trial];
    if ((trial ?? 0) >= mostTrialDepth) return false;
    if (trial === null) this.#known = this.#nothing();
    this.#trial = trial ?? 0;
    try {
      return (yield* this.value(schemas)) === never;
    } catch (cause) {
      // What cannot be read cannot be told apart.
      if (cause instanceof HeedError && cause.message.startsWith("schema at")) return false;
      throw cause;
    } finally {
      [this.#known, this.#trial] = [known, trial];
    }
  }
}
