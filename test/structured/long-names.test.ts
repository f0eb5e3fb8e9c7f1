/** Messages about formats name their places in few words, however long the names in the format are. */
import { expect, test } from "vitest";
import { formatExpression } from "../../lib/structured/format-expression.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { inTurns } from "../../lib/util/turns.js";

const long = `begin${"x".repeat(50_000)}end`;
/** Names of rules have at most 200 characters. */
const ruleName = `begin${"x".repeat(150)}end`;
const schema = (given: object, strict = false): OutputFormat => ({
  ...{ type: "json-schema", strict },
  schema: given as Record<string, unknown>,
});
const within = (part: unknown): OutputFormat => schema({ type: "object", properties: { [long]: part } });
let deep: object = { type: "colour" };
for (let i = 0; i < 300; i++) deep = { type: "object", properties: { [`level ${i}`]: deep } };

test.each<[string, OutputFormat, RegExp]>([
  ["an unknown type", within({ type: "colour" }), /^schema at #\/properties\/beginx+…x+end\/type: expected /],
  ["a pattern", within({ type: "string", pattern: "(" }), /^schema at #\/properties\/beginx+…x+end\/pattern: /],
  ["a long pattern", within({ type: "string", pattern: `${long}(` }), /end\/pattern: expected a regular expression/],
  [
    "a pattern of names",
    schema({ patternProperties: { [`${long}(`]: {} } }),
    /^schema at #\/patternProperties.*regular/,
  ],
  ["a schema that refers to itself", within({ $ref: `#/properties/${long}` }), /^schema at #\/properties\/beginx+…/],
  ["a reference", within({ $ref: `#/$defs/${long}` }), /expected a schema at #\/\$defs\/beginx+…x+end, got none$/],
  ["a reference to elsewhere", within({ $ref: `https://a.b/${long}` }), /\$ref: expected a reference within/],
  ["a keyword that nobody knows", schema({ [long]: 1 }, true), /^schema at #\/beginx+…x+end: expected a keyword/],
  ["a text that never ends", schema({ $ref: "#/$defs/a", $defs: { a: { $ref: `#/$defs/${long}` }, [long]: { type: "object", required: ["b"], properties: { b: { $ref: "#/$defs/a" } } } } }), /expected a text that can end/], // prettier-ignore
  [
    "a rule of a grammar",
    { type: "grammar", grammar: `root ::= ${ruleName}` },
    /a rule named beginx+…x+end, got none$/,
  ],
  [
    "two rules of a name",
    { type: "grammar", grammar: `root ::= "a"\n${ruleName} ::= "b"\n${ruleName} ::= "c"` },
    /one rule named begin/,
  ],
  [
    "a rule that begins with itself",
    { type: "grammar", grammar: `root ::= ${ruleName}\n${ruleName} ::= ${ruleName} "b" | "c"` },
    /begin/,
  ],
  ["a place far down", schema(deep), /^schema at #\/properties\/level 299\/.*level 0\/type: expected /],
])("%s", async (_, format, message) => {
  const error = await inTurns(formatExpression(format)).then(
    () => null,
    (cause: unknown) => cause as Error,
  );
  expect(error).toMatchObject({ code: "ERR_ARGUMENT", message: expect.stringMatching(message) });
  expect(error!.message.length).toBeLessThan(600);
});
