/** Schemas that zod makes: what is generated is valid, and what is valid is accepted. */
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import type { Expression } from "../../lib/structured/expression.js";
import { nightly } from "../support/nightly.js";
import { sampler } from "./sample.js";
import { acceptedBy, automatonOf, schemaOf as read } from "./support.js";

const automaton = automatonOf(new ByteTokenizer());
const accepts = (root: Expression, text: string): boolean => acceptedBy(automaton, root, text);

describe("zod's types", () => {
  interface Node {
    value: number;
    next?: Node | undefined;
  }
  const list: z.ZodType<Node> = z.object({ value: z.int(), next: z.lazy(() => list.optional()) });
  const base = { a: z.int() };
  const versions = Array.from({ length: 8 }, (_, i): [string, z.ZodType, string] => {
    const version = `v${i + 1}` as "v1";
    return [`uuid ${version}`, z.uuid({ version }), `2eb8aa08-aa98-${i + 1}1ea-b4aa-73b441d16380`];
  });
  const hash = (algorithm: "md5" | "sha1" | "sha256" | "sha384" | "sha512", bytes: number): typeof versions => [
    [algorithm, z.hash(algorithm), "0f".repeat(bytes)],
    [`${algorithm} base64`, z.hash(algorithm, { enc: "base64" }), Buffer.alloc(bytes).toString("base64")],
    [`${algorithm} base64url`, z.hash(algorithm, { enc: "base64url" }), Buffer.alloc(bytes).toString("base64url")],
  ];
  /** A type, and a value of it. What a JSON schema of zod does not say, such as what a JWT is, cannot be followed. */
  const types: [string, z.ZodType, unknown][] = [
    ["email", z.email(), "joe.d@example.com"],
    ["email of HTML", z.email({ pattern: z.regexes.html5Email }), "joe@example.com"],
    ["email of an RFC", z.email({ pattern: z.regexes.rfc5322Email }), "joe@example.com"],
    ["email with a length", z.email().min(8).max(60), "joe@example.com"],
    ["uuid", z.uuid(), "2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
    ...versions,
    ["guid", z.guid(), "2eb8aa08-aa98-11ea-b4aa-73b441d16380"],
    ["url", z.url(), "https://example.com/a?b#c"],
    ["url with a length", z.url().max(50), "https://example.com/a?b#c"],
    ["hostname", z.hostname(), "www.example.com"],
    ["hostname with a length", z.hostname().max(40), "www.example.com"],
    ["emoji", z.emoji(), "😀"],
    ["base64", z.base64(), "aGVlZA=="],
    ["base64url", z.base64url(), "aGVlZA"],
    ["nanoid", z.nanoid(), "V1StGXR8_Z5jdHi6B-myT"],
    ["cuid2", z.cuid2(), "tz4a98xxat96iws9zmbrgj3a"],
    ["ulid", z.ulid(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ["xid", z.xid(), "9m4e2mr0ui3e8a215n4g"],
    ["ksuid", z.ksuid(), "0ujtsYcgvSTl8PAuAdqWYSMnLOv"],
    ["e164", z.e164(), "+491234567890"],
    ["ipv4", z.ipv4(), "192.168.0.1"],
    ["ipv6", z.ipv6(), "2001:db8::1"],
    ["mac", z.mac(), "00:1A:2B:3C:4D:5E"],
    ["cidrv4", z.cidrv4(), "10.0.0.0/8"],
    ["cidrv6", z.cidrv6(), "2001:db8::/32"],
    ["hex", z.hex(), "0aF"],
    ...[hash("md5", 16), hash("sha1", 20), hash("sha256", 32), hash("sha384", 48), hash("sha512", 64)].flat(),
    ["date", z.iso.date(), "2024-02-29"],
    ["time", z.iso.time(), "12:30:00"],
    ["time of minutes", z.iso.time({ precision: -1 }), "12:30"],
    ["datetime", z.iso.datetime(), "2024-02-29T12:00:00Z"],
    ["datetime with an offset", z.iso.datetime({ offset: true, precision: 3 }), "2024-02-29T12:00:00.123+01:00"],
    ["local datetime", z.iso.datetime({ local: true }), "2024-02-29T12:00:00"],
    ["duration", z.iso.duration(), "P1DT2H"],
    ["lowercase", z.string().lowercase(), "ab 1"],
    ["uppercase", z.string().uppercase(), "AB 1"],
    ["includes", z.string().includes("a.b"), "xa.by"],
    ["startsWith and endsWith", z.string().startsWith("ab").endsWith("cd").max(20), "ab-cd"],
    ["regex", z.string().regex(/^a/).regex(/b$/), "a b"],
    ["length", z.string().length(5), "abcde"],
    ["template", z.templateLiteral(["a-", z.number(), "-", z.enum(["x", "y"])]), "a-1.5-y"],
    ["template of types", z.templateLiteral([z.email(), ":", z.uuid()]), "a@b.cd:2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
    ["int32", z.int32(), -7],
    ["uint32", z.uint32(), 7],
    ["float32", z.float32(), 0.5],
    ["int", z.int(), 7],
    ["positive", z.number().positive(), 0.5],
    ["negative", z.number().negative(), -0.5],
    ["multipleOf", z.number().multipleOf(5), 15],
    ["record", z.record(z.string(), z.int()), { x: 1 }],
    ["record of an enum", z.record(z.enum(["a", "b"]), z.int()), { a: 1, b: 2 }],
    ["partialRecord", z.partialRecord(z.enum(["a", "b"]), z.int()), { b: 2 }],
    ["record of uuids", z.record(z.uuid(), z.boolean()), { "2eb8aa08-aa98-41ea-b4aa-73b441d16380": true }],
    ["tuple with more", z.tuple([z.int()], z.boolean()), [1, true, false]],
    ["intersection", z.intersection(z.object(base), z.object({ b: z.string().optional() })), { a: 1, b: "x" }],
    ["strictObject", z.strictObject({ ...base, b: z.string().optional() }), { a: 1 }],
    ["looseObject", z.looseObject(base), { a: 1, c: [] }],
    ["catchall", z.object(base).catchall(z.boolean()), { a: 1, c: true }],
    ["nullable", z.object({ a: z.int().nullable() }), { a: null }],
    ["optional", z.object({ a: z.int().optional() }), {}],
    ["default", z.object({ a: z.int().default(3) }), { a: 4 }],
    ["catch", z.object({ a: z.int().catch(3) }), { a: 4 }],
    ["readonly", z.object(base).readonly(), { a: 4 }],
    ["lazy", list, { value: 1, next: { value: 2 } }],
    ["json", z.json(), { a: [1, null] }],
  ];

  test.each(types)("%s", (_, type, value) => {
    for (const target of ["draft-2020-12", "draft-7"] as const) {
      const root = read(z.toJSONSchema(type, { target }));
      expect(type.safeParse(value).success).toBe(true);
      expect(accepts(root, JSON.stringify(value)), JSON.stringify(value)).toBe(true);
      const sample = sampler(root);
      for (let seed = 0; seed < (nightly ? 200 : 10); seed++) {
        const made: unknown = JSON.parse(sample(seed, seed === 0 ? 0 : 60));
        expect(type.safeParse(made).success, JSON.stringify(made)).toBe(true);
      }
    }
  });

  test("records, unions and the like", () => {
    const type = z.object({
      kind: z.discriminatedUnion("type", [
        z.object({ type: z.literal("a"), at: z.iso.datetime() }),
        z.object({ type: z.literal("b"), share: z.number().gt(0).lt(1) }),
      ]),
      byName: z.record(z.string().regex(/^[a-z]{1,8}$/), z.int().multipleOf(5)),
      pair: z.tuple([z.string().max(5), z.int()]).optional(),
      left: z.union([z.null(), z.email()]),
    });
    const sample = sampler(read(z.toJSONSchema(type)));
    for (let seed = 0; seed < 100; seed++) {
      const text = sample(seed, 200);
      expect(type.safeParse(JSON.parse(text)).success, text).toBe(true);
    }
  });
});
