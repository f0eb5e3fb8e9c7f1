// Calls of tools that are written like calls of a function, with values that are not JSON:
//
//   weather(city="Rome", days=3)                     LFM, and others in Python's form
//   call:weather{city:<|"|>Rome<|"|>,days:3}         Gemma, whose strings stand between two tokens as they are
import type { JsonSchema } from "../util/json-schema.js";
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import { longestHead, type Scanned, type Scanner } from "./call-format.js";
import { callId } from "./call-scanner.js";
import { jsonValue, membersOfJson, propertiesOf, requiredOf, resolved, valueOf } from "./call-values.js";
import { anyOf, choice, choiceOf, empty, type Expression, literal, optionalPart, repeat, rule, type Rule, sequence } from "./expression.js"; // prettier-ignore
import { textUntil } from "./free-text.js";
import { boolean, nullValue, number, quoted } from "./json-expressions.js";
import { type Literals, MemberEnd, readLiteral } from "./literals.js";
import { inJsonString, inputOf } from "./tool-input.js";

/** A form of such calls. */
export interface MemberForm {
  readonly literals: Literals;
  /** Text before the name. */
  readonly before: string;
  readonly open: string;
  readonly close: string;
  readonly assign: string;
  readonly separator: string;
}

/** Calls in Python's form. */
export const pythonForm: MemberForm = {
  ...{ literals: { quotes: ['"', "'"], escapes: true }, before: "", open: "(", close: ")" },
  ...{ assign: "=", separator: ", " },
};

/** Returns Gemma's form, whose strings stand between `quote`. */
export function gemmaForm(quote: string): MemberForm {
  return {
    ...{ literals: { quotes: [quote], escapes: false }, before: "call:", open: "{", close: "}" },
    ...{ assign: ":", separator: "," },
  };
}

/** Returns the calls of a tool. */
export function* memberCall(tool: Tool, form: MemberForm): Steps<Expression> {
  const required = requiredOf(tool);
  const { separator } = form;
  const members: { needed: boolean; text: Expression }[] = [];
  for (const [name, schema] of propertiesOf(tool)) {
    const value = form.literals.escapes ? yield* pythonValue(schema, tool) : yield* quotedValue(schema, tool, form, 0);
    members.push({ needed: required.has(name), text: sequence(literal(name + form.assign), value) });
  }
  return sequence(
    literal(form.before + tool.name + form.open),
    membersExpression(members, separator),
    literal(form.close),
  );
}

/** Returns members with separators, in their order; those that are not needed may be left out. */
function membersExpression(
  members: readonly { readonly needed: boolean; readonly text: Expression }[],
  separator: string,
): Expression {
  let [after, start]: [Expression, Expression] = [empty, empty];
  for (const { needed, text } of members.toReversed()) {
    const [before, further] = [after, sequence(literal(separator), text)];
    start = needed ? sequence(text, before) : choice(sequence(text, before), start);
    after = rule("further members", sequence(needed ? further : optionalPart(further), before));
  }
  return start;
}

/** Returns a value in Python's form: JSON, of which Python reads all but some words, and those words. */
function* pythonValue(schema: unknown, tool: Tool): Steps<Expression> {
  const input = yield* inputOf(tool);
  if (input) return quoted(inJsonString(input));
  const { type } = Object(resolved(schema, tool.parameters ?? {})) as { type?: unknown };
  if (type === "boolean") return choice(literal("True"), literal("False"));
  if (type === "null") return literal("None");
  return yield* jsonValue(schema, tool);
}

/** Most levels of a value whose schema is followed; deeper ones may be anything. */
const mostDepth = 8;

/** Returns a value whose strings stand between quotes. The types, `enum`, `const` and `required` are enforced. */
function* quotedValue(schema: unknown, tool: Tool, form: MemberForm, depth: number): Steps<Expression> {
  const root: JsonSchema = tool.parameters ?? {};
  const found = resolved(schema, root);
  const given = Object(found) as JsonSchema;
  const quote = literal(form.literals.quotes[0]!);
  const text = sequence(quote, textUntil(form.literals.quotes[0]!, empty, false));
  const { choices, text: mayBeText, other } = valueOf(found, root);
  const input = yield* inputOf(tool);
  if (input) return sequence(quote, input, quote);
  if (choices) return sequence(quote, yield* anyOf(choices.map(literal)), quote);
  if (!other) return text;
  const options = given.anyOf ?? given.oneOf;
  if (Array.isArray(options) && depth < mostDepth) {
    const each: Expression[] = [];
    for (const option of options) each.push(yield* quotedValue(option, tool, form, depth + 1));
    return choiceOf(each);
  }
  const types = [given.type].flat();
  const isList = types.includes("array");
  const isObject = types.includes("object");
  if (given.type === undefined || (isList && isObject) || depth >= mostDepth) return anyQuoted(form);
  if (types.length === 1 && isList) {
    const item = yield* quotedValue(given.items ?? {}, tool, form, depth + 1);
    return listOf("[", item, "]");
  }
  if (types.length === 1 && isObject) {
    const inner: Tool = { name: "", parameters: { ...root, properties: given.properties, required: given.required } };
    const members: { needed: boolean; text: Expression }[] = [];
    const required = requiredOf(inner);
    for (const [name, member] of propertiesOf(inner)) {
      const value = yield* quotedValue(member, tool, form, depth + 1);
      members.push({ needed: required.has(name), text: sequence(literal(name + form.assign), value) });
    }
    if (members.length === 0) return anyQuoted(form);
    return sequence(literal("{"), membersExpression(members, form.separator), literal("}"));
  }
  if (isList || isObject) return anyQuoted(form);
  const others = yield* jsonValue({ ...given, type: types.filter((type) => type !== "string") }, tool);
  return mayBeText ? choice(text, others) : others;
}

const anyQuotedOf = new Map<string, Rule>();

/** Returns any value whose strings stand between quotes. */
function anyQuoted({ literals, assign }: MemberForm): Rule {
  const quote = literals.quotes[0]!;
  const known = anyQuotedOf.get(quote);
  if (known) return known;
  const made = rule(`any value with ${quote}`, empty);
  anyQuotedOf.set(quote, made);
  const key = repeat(wordCharacter, 1, 64);
  const object = listOf("{", sequence(key, literal(assign), made), "}");
  const text = sequence(literal(quote), textUntil(quote, empty, false));
  made.body = choice(text, number, boolean, nullValue, listOf("[", made, "]"), object);
  return made;
}

/** A character of a name. */
const wordCharacter = choiceOf(Array.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", literal));

function listOf(open: string, item: Expression, close: string): Expression {
  const items = sequence(item, repeat(sequence(literal(","), item), 0));
  return sequence(literal(open), optionalPart(items), literal(close));
}

/** Returns a call as the model writes it. */
export function writeMemberCall(name: string, json: string, form: MemberForm): string {
  const members = membersOfJson(json).map(([key, value]) => key + form.assign + written(value, form));
  return form.before + name + form.open + members.join(form.separator) + form.close;
}

function written(value: unknown, form: MemberForm): string {
  const { literals, assign, separator } = form;
  if (typeof value === "string") {
    const [quote] = literals.quotes;
    return literals.escapes ? JSON.stringify(value) : quote! + value + quote!;
  }
  if (literals.escapes && (value === null || typeof value === "boolean"))
    return value === null ? "None" : value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map((one: unknown) => written(one, form)).join(separator)}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([key, one]) =>
    literals.escapes ? `${JSON.stringify(key)}: ${written(one, form)}` : key + assign + written(one, form),
  );
  return `{${members.join(separator)}}`;
}

/** Reads one call. A member is given when it is complete. */
export class MemberCallScanner implements Scanner {
  readonly #index: number;
  readonly #form: MemberForm;
  readonly #tools: ReadonlySet<string> | null;
  #end: MemberEnd | null = null;
  /** Text that has not been given: the head, or the member that is being read. */
  #held = "";
  #members = 0;
  done = false;

  /** If the names of the tools are given, a text that is no call of one of them is rejected. */
  constructor(index: number, form: MemberForm, tools: ReadonlySet<string> | null = null) {
    this.#index = index;
    this.#form = form;
    this.#tools = tools;
  }

  push(text: string): Scanned {
    let first: { id: string; name: string } | null = null;
    let added = "";
    let length = 0;
    for (const character of text) {
      length += character.length;
      if (!this.#end) {
        const name = this.#name(character);
        if (name === null) continue;
        if (name === "") return { delta: null, length, rejected: true };
        [first, added] = [{ id: callId(), name }, "{"];
        this.#end = new MemberEnd(this.#form.literals);
        continue;
      }
      const at = this.#end.push(character);
      if (at === "within") {
        this.#held += character;
        continue;
      }
      added += this.#member();
      if (at === "separator") continue;
      added += "}";
      this.done = true;
      break;
    }
    return { delta: !first && added === "" ? null : { index: this.#index, ...first, arguments: added }, length };
  }

  /** Returns the name when the head is complete, an empty one if it is no head, and null if neither is known. */
  #name(character: string): string | null {
    const { before, open } = this.#form;
    if (character !== open) {
      this.#held += character;
      const head = this.#held.trimStart();
      const isName = before.startsWith(head) || (head.startsWith(before) && /^[\w.-]*\s*$/.test(head.slice(before.length))); // prettier-ignore
      return isName && this.#held.length < longestHead ? null : "";
    }
    const name = this.#held.trim().slice(before.length).trim();
    this.#held = "";
    return this.#tools && !this.#tools.has(name) ? "" : name;
  }

  /** Takes the member that has been read; returns it as JSON. */
  #member(): string {
    const text = this.#held.trim();
    this.#held = "";
    if (text === "") return "";
    const at = assignmentIn(text, this.#form);
    // A value without a name is one that the format has not.
    const name = at < 0 ? `argument${this.#members + 1}` : nameIn(text.slice(0, at), this.#form.literals);
    const value = readLiteral(text.slice(at < 0 ? 0 : at + 1), this.#form.literals);
    return `${this.#members++ === 0 ? "" : ", "}${JSON.stringify(name)}: ${value}`;
  }
}

/** Returns the place of the sign between a name and its value; −1 if there is none. */
function assignmentIn(text: string, { assign, literals }: MemberForm): number {
  const quote = literals.quotes.find((one) => text.startsWith(one));
  const from = quote === undefined ? 0 : text.indexOf(quote, quote.length);
  const at = from < 0 ? -1 : text.indexOf(assign, from);
  if (quote !== undefined) return at;
  return /^[\w.-]+\s*$/.test(text.slice(0, Math.max(at, 0))) ? at : -1;
}

function nameIn(text: string, { quotes }: Literals): string {
  const quote = quotes.find((one) => text.trim().startsWith(one));
  return quote === undefined ? text.trim() : text.trim().slice(quote.length, -quote.length);
}
