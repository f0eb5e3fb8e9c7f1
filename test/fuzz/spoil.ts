/**
 * Ways in which a file can be wrong: flipped bytes, huge lengths, and values of JSON that are exchanged, dropped,
 * doubled or nested.
 */
import fc from "fast-check";
import type { Draw } from "./random-models.js";

const integer = (draw: Draw, min: number, max: number): number => draw(fc.integer, { min, max });
function pick<T>(draw: Draw, values: readonly T[]): T {
  return values[integer(draw, 0, values.length - 1)]!;
}

/** Numbers at which readers break: around the limits of their types, and sizes for which no machine has memory. */
const numbers = [0n, 1n, 2n, 7n, 255n, 4096n, 65_535n, 1n << 20n, 1n << 27n, (1n << 31n) - 1n, 1n << 31n, 0xffffffffn];
const wide = [...numbers, 1n << 32n, (1n << 53n) - 1n, 1n << 53n, 1n << 60n, (1n << 63n) - 1n, (1n << 64n) - 1n];

/** Spoils bytes in up to three places, most of them within the first `head` bytes, where formats have their sizes. */
export function spoilBytes(draw: Draw, bytes: Buffer, head = 400): Buffer {
  let spoilt = Buffer.from(bytes);
  const at = (): number =>
    integer(draw, 0, Math.max(0, Math.min(spoilt.length, draw(fc.nat, 3) > 0 ? head : spoilt.length) - 1));
  for (let edits = integer(draw, 1, 3); edits > 0; edits--) {
    const place = at();
    switch (pick(draw, ["flip", "number", "wide", "float", "truncate", "remove", "insert", "repeat"])) {
      case "flip":
        if (spoilt.length > 0) spoilt[place]! ^= integer(draw, 1, 255);
        break;
      case "number":
        if (place + 4 <= spoilt.length) spoilt.writeUInt32LE(Number(pick(draw, numbers)), place - (place % 4));
        break;
      case "wide":
        if (place + 8 <= spoilt.length) spoilt.writeBigUInt64LE(pick(draw, wide), place);
        break;
      case "float":
        if (place + 4 <= spoilt.length) spoilt.writeFloatLE(pick(draw, [NaN, Infinity, -Infinity, 1e38, -0]), place);
        break;
      case "truncate":
        spoilt = spoilt.subarray(0, place);
        break;
      case "remove":
        spoilt = Buffer.concat([spoilt.subarray(0, place), spoilt.subarray(place + integer(draw, 1, 8))]);
        break;
      case "insert":
        spoilt = Buffer.concat([
          spoilt.subarray(0, place),
          Buffer.alloc(integer(draw, 1, 8), 0xff),
          spoilt.subarray(place),
        ]);
        break;
      case "repeat":
        spoilt = Buffer.concat([spoilt.subarray(0, place), spoilt.subarray(integer(draw, 0, place))]);
        break;
    }
  }
  return spoilt;
}

/** Texts that may replace a value in a JSON file. */
const values: readonly (() => string)[] = [
  ...["null", "true", "false", '""', '"1e6"', '"\\ud800"', '"__proto__"', "[]", "{}", "[null]", '[["a"]]', '{"a":1}'],
  ...["0", "-1", "1", "2", "0.5", "1e999", "-1e999", "1e-999", "1000000", "2097151", "2147483647", "4294967296"],
  ...["9007199254740993", "1e15", "1e300"],
].map((text) => () => text);
const large: readonly (() => string)[] = [
  () => "[".repeat(20_000) + "]".repeat(20_000),
  () => '{"type":"Sequence","normalizers":['.repeat(3000) + "]}".repeat(3000),
  () => '{"type":"Sequence","pretokenizers":['.repeat(3000) + "]}".repeat(3000),
  () => '{"type":"Sequence","processors":['.repeat(3000) + "]}".repeat(3000),
  () => `[${"0,".repeat(200_000)}0]`,
  () => `"${"a".repeat(300_000)}"`,
];

/** Spoils up to three values of a JSON text. */
export function spoilJson(draw: Draw, text: string): string {
  for (let edits = integer(draw, 1, 3); edits > 0; edits--) text = spoilValue(draw, text);
  return text;
}

/** A value for which `JSON.stringify` leaves a mark; the mark is then replaced by the text. */
const mark = "\u0000mark\u0000";

function spoilValue(draw: Draw, text: string): string {
  let root: unknown;
  try {
    root = JSON.parse(text);
    // This depth overflows the stack.
    JSON.stringify(root);
  } catch {
    return text;
  }
  // The places of values: an object or array and a key for each. Of the many places in lists only a few are taken.
  const places: [Record<string, unknown>, string][] = [];
  const walk = (value: unknown, depth: number): void => {
    if (typeof value !== "object" || value === null || depth === 0) return;
    const keys = Object.keys(value);
    for (const key of keys.length > 30 ? [...keys.slice(0, 8), ...keys.slice(-8)] : keys) {
      places.push([value as Record<string, unknown>, key]);
      walk((value as Record<string, unknown>)[key], depth - 1);
    }
  };
  walk(root, 8);
  const put = (replacement: string): string => JSON.stringify(root).replaceAll(JSON.stringify(mark), () => replacement);
  if (places.length === 0) return pick(draw, values)();
  const [owner, key] = pick(draw, places);
  const [other, otherKey] = pick(draw, places);
  switch (pick(draw, ["value", "value", "value", "large", "drop", "double", "other", "add", "root"])) {
    case "value":
      owner[key] = mark;
      return put(pick(draw, values)());
    case "large":
      owner[key] = mark;
      return put(pick(draw, large)());
    case "drop":
      if (Array.isArray(owner)) owner.splice(Number(key), 1);
      else Reflect.deleteProperty(owner, key);
      return JSON.stringify(root);
    case "double": {
      if (Array.isArray(owner)) owner.push(owner[Number(key)]);
      else owner[mark] = owner[key];
      return JSON.stringify(root).replaceAll(JSON.stringify(mark), () => JSON.stringify(key));
    }
    case "other": {
      const value = other[otherKey];
      owner[key] = structuredClone(value);
      return JSON.stringify(root);
    }
    case "add":
      if (Array.isArray(owner)) owner.push(mark);
      else owner[`${key}_`] = mark;
      return put(pick(draw, values)());
    default:
      return pick(draw, values)();
  }
}

/** Spoils the header of a safetensors file as JSON. */
export function spoilSafetensors(draw: Draw, bytes: Buffer): Buffer {
  const length = Number(bytes.readBigUInt64LE());
  const header = Buffer.from(spoilJson(draw, bytes.toString("utf8", 8, 8 + length)));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([size, header, bytes.subarray(8 + length)]);
}
