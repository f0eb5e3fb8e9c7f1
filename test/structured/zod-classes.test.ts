/**
 * Every class of zod's schemas, by each way in which clients turn them into JSON schemas: heed follows what they say, or zod
 * itself says that JSON Schema has no form for the class.
 */
import { toJsonSchema } from "@langchain/core/utils/json_schema";
import { asSchema } from "ai";
import { zodResponseFormat } from "openai/helpers/zod";
import { expect, test } from "vitest";
import { z } from "zod";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { nightly } from "../support/nightly.js";
import { sampler } from "./sample.js";
import { acceptedBy, automatonOf, schemaOf } from "./support.js";

const automaton = automatonOf(new ByteTokenizer());
const a = z.object({ a: z.int() });
const b = z.object({ b: z.string().optional() });
const [x, y] = [z.object({ t: z.literal("x") }), z.object({ t: z.literal("y"), n: z.int() })];

/** Types that JSON schemas describe, by their classes, with a value of each. */
const followed: Record<string, [type: z.ZodType, value: unknown]> = {
  ZodISODateTime: [z.iso.datetime(), "2024-02-29T12:00:00Z"],
  ZodISODate: [z.iso.date(), "2024-02-29"],
  ZodISOTime: [z.iso.time(), "12:30:00"],
  ZodISODuration: [z.iso.duration(), "P1DT2H"],
  ZodString: [z.string().min(1).max(5), "abc"],
  ZodEmail: [z.email(), "joe.d@example.com"],
  ZodGUID: [z.guid(), "2eb8aa08-aa98-11ea-b4aa-73b441d16380"],
  ZodUUID: [z.uuid(), "2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
  ZodURL: [z.url(), "https://example.com/a?b#c"],
  ZodEmoji: [z.emoji(), "😀"],
  ZodNanoID: [z.nanoid(), "V1StGXR8_Z5jdHi6B-myT"],
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- Programs have it.
  ZodCUID: [z.cuid(), "cjld2cjxh0000qzrmn831i7rn"],
  ZodCUID2: [z.cuid2(), "tz4a98xxat96iws9zmbrgj3a"],
  ZodULID: [z.ulid(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
  ZodXID: [z.xid(), "9m4e2mr0ui3e8a215n4g"],
  ZodKSUID: [z.ksuid(), "0ujtsYcgvSTl8PAuAdqWYSMnLOv"],
  ZodIPv4: [z.ipv4(), "192.168.0.1"],
  ZodIPv6: [z.ipv6(), "2001:db8::1"],
  ZodMAC: [z.mac(), "00:1A:2B:3C:4D:5E"],
  ZodCIDRv4: [z.cidrv4(), "10.0.0.0/8"],
  ZodCIDRv6: [z.cidrv6(), "2001:db8::/32"],
  ZodBase64: [z.base64(), "aGVlZA=="],
  ZodBase64URL: [z.base64url(), "aGVlZA"],
  ZodE164: [z.e164(), "+491234567890"],
  ZodCustomStringFormat: [z.hostname(), "www.example.com"],
  ZodNumber: [z.number().min(-2).max(7.5), 2.5],
  ZodNumberFormat: [z.int32(), -7],
  ZodBoolean: [z.boolean(), true],
  ZodNull: [z.null(), null],
  ZodAny: [z.any(), [1, { b: null }]],
  ZodUnknown: [z.unknown(), "anything"],
  ZodArray: [z.array(z.int()).min(1).max(4), [1, 2]],
  ZodObject: [z.object({ a: z.int(), b: z.string().max(3) }), { a: 1, b: "x" }],
  ZodUnion: [z.union([z.string().max(4), z.int()]), 4],
  ZodXor: [z.xor([z.string().max(4), z.int()]), "ab"],
  ZodDiscriminatedUnion: [z.discriminatedUnion("t", [x, y]), { t: "y", n: 3 }],
  ZodIntersection: [z.intersection(a, b), { a: 1, b: "x" }],
  ZodTuple: [z.tuple([z.int(), z.boolean()]), [1, true]],
  ZodRecord: [z.record(z.string(), z.int()), { k: 1 }],
  ZodEnum: [z.enum(["p", "q"]), "q"],
  ZodLiteral: [z.literal(["p", 3, true, null]), 3],
  ZodOptional: [z.object({ a: z.int().optional() }), {}],
  ZodExactOptional: [z.object({ a: z.int().exactOptional() }), { a: 4 }],
  ZodNullable: [z.int().nullable(), null],
  ZodDefault: [z.object({ a: z.int().default(3) }), { a: 4 }],
  ZodPrefault: [z.object({ a: z.int().prefault(3) }), { a: 4 }],
  ZodNonOptional: [z.object({ a: z.nonoptional(z.int().optional()) }), { a: 4 }],
  ZodCatch: [z.object({ a: z.int().catch(3) }), { a: 4 }],
  ZodPipe: [z.string().max(5).pipe(z.string().min(0)), "abc"],
  ZodPreprocess: [z.preprocess((value) => value, z.int()), 3],
  ZodReadonly: [a.readonly(), { a: 4 }],
  ZodTemplateLiteral: [z.templateLiteral(["v", z.number()]), "v1.5"],
  ZodLazy: [z.lazy(() => a), { a: 1 }],
};

/**
 * Types whose JSON schemas do not say all, or not of the value that zod parses (a codec's other side, what is behind a
 * promise, if parsing succeeds): heed follows what they say.
 */
const partly: Record<string, [type: z.ZodType, value: unknown]> = {
  ZodJWT: [z.jwt(), "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.c2ln"],
  ZodCreditCard: [z.creditCard(), "4111111111111111"],
  ZodIBAN: [z.iban(), "DE89370400440532013000"],
  ZodFile: [z.file(), "bytes"],
  ZodCodec: [z.codec(z.string().max(4), z.string(), { decode: (text) => text, encode: (text) => text }), "ab"],
  ZodSuccess: [z.success(z.int()), true],
  ZodPromise: [z.promise(z.int()), 3],
};

/** Types for which zod itself says that JSON Schema has no form. */
const formless: Record<string, z.ZodType> = {
  ZodBigInt: z.bigint(),
  ZodBigIntFormat: z.int64(),
  ZodSymbol: z.symbol(),
  ZodUndefined: z.undefined(),
  ZodVoid: z.void(),
  ZodDate: z.date(),
  ZodMap: z.map(z.string(), z.int()),
  ZodSet: z.set(z.int()),
  ZodTransform: z.transform((value) => value),
  ZodNaN: z.nan(),
  ZodFunction: z.function(),
  ZodCustom: z.custom(() => true),
  ZodInstanceOf: z.instanceof(Date),
};

/** Ways to a JSON schema of a type, and of the value that a text of it stands for. */
const ways: Record<string, { of: (type: z.ZodType) => object; wraps: boolean }> = {
  "zod, as input": { of: (type) => z.toJSONSchema(type, { io: "input" }), wraps: false },
  "zod, for draft 7": { of: (type) => z.toJSONSchema(type, { io: "input", target: "draft-7" }), wraps: false },
  openai: { of: (type) => zodResponseFormat(type as z.ZodObject, "answer").json_schema.schema!, wraps: true },
  ai: { of: (type) => asSchema(type).jsonSchema, wraps: true },
  langchain: { of: (type) => toJsonSchema(type), wraps: true },
};
/** Types that a client's own helper refuses. */
const refusedBy: Record<string, readonly string[]> = {
  openai: [
    "ZodFile",
    "ZodBase64",
    "ZodBase64URL",
    "ZodIntersection",
    "ZodTuple",
    "ZodRecord",
    "ZodOptional",
    "ZodExactOptional",
  ],
  langchain: ["ZodPreprocess"],
};

test("the tables have every class of zod", () => {
  const classes = Object.keys(z).filter((name) => /^Zod(?!.*Error$|Type$|StringFormat$)/.test(name) && name in z);
  const all = classes.filter((name) => typeof z[name as keyof typeof z] === "function");
  expect([...Object.keys({ ...followed, ...partly, ...formless }), "ZodNever"].sort()).toEqual(all.sort());
  // Others are what an object's field can be.
  const within = ["Optional", "ExactOptional", "Default", "Prefault", "NonOptional", "Catch"].map((one) => `Zod${one}`);
  for (const [name, one] of Object.entries({ ...followed, ...partly, ...formless })) {
    const type = Array.isArray(one) ? one[0] : one;
    const own = within.includes(name) ? (type as z.ZodObject).shape.a! : type;
    expect((own as z.ZodType).constructor.name).toBe(name);
  }
});

test.each(Object.entries({ ...followed, ...partly }))("%s is followed", (name, [type, value]) => {
  const refused: string[] = [];
  /** Schemas of the ways before; two of them may make the same one. */
  const seen = new Set<string>();
  for (const [way, { of, wraps }] of Object.entries(ways)) {
    const asked = wraps ? z.object({ value: type }) : type;
    let schema: object;
    try {
      schema = of(asked);
    } catch {
      // The helper has no form for it, so that no request is made.
      refused.push(way);
      continue;
    }
    const key = JSON.stringify({ ...schema, $schema: null });
    if (seen.has(key)) continue;
    seen.add(key);
    const root = schemaOf(schema);
    expect(acceptedBy(automaton, root, JSON.stringify(wraps ? { value } : value)), way).toBe(true);
    const sample = sampler(root);
    for (let seed = 0; seed < (nightly ? 100 : 5); seed++) {
      const made: unknown = JSON.parse(sample(seed, 60));
      if (name in followed) expect(asked.safeParse(made).success, `${way}: ${JSON.stringify(made)}`).toBe(true);
    }
  }
  expect(refused).toEqual(Object.keys(refusedBy).filter((way) => refusedBy[way]!.includes(name)));
  if (name in followed) expect(type.safeParse(value).success).toBe(true);
});

test.each(Object.entries(formless))("%s has no form, as zod itself says", (_, type) => {
  expect(() => z.toJSONSchema(type, { io: "input" })).toThrow(/cannot be represented in JSON Schema/);
});

test("ZodNever, which no text has, is refused", () => {
  expect(() => schemaOf(z.toJSONSchema(z.never()))).toThrow(/format/);
});
