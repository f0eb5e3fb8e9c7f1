// Jinja2's filters of lists and dictionaries. Many of them return iterators, which are true even if nothing follows,
// have no length and can be used once.
import { arithmetic, remarked } from "./operators.js";
import { fail, needInt, needText, type Operation, operations, type Runtime, tracking } from "./runtime.js";
import { joinTexts, shownText, TextBuilder } from "./untrusted.js";
import {
  compare,
  Dict,
  firstOf,
  isList,
  Iter,
  iterate,
  sizeOf,
  stringOf,
  type Text,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

type Filter = Operation<Value, Value>;
/** Filters that choose values, or join texts with their untrusted parts. */
const filter = tracking(operations<Value, Value>());
type Getter = (item: Value) => Value;

/** Returns a function that gets an attribute, such as "a.b.0", of a value; the value itself if none is named. */
function getter(runtime: Runtime, attribute: Value | undefined, usual?: Value): Getter {
  if (attribute === undefined || attribute === null) return (item) => item;
  const text = stringOf(attribute);
  const path = text === undefined ? [attribute] : text.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part)); // prettier-ignore
  return (item) =>
    path.reduce((value, key) => {
      const next = runtime.item(value, key);
      return usual !== undefined && usual !== null && next instanceof Undefined ? usual : next;
    }, item);
}

/** Returns a function that gets what is compared of a value: an attribute, in lower case if case does not matter. */
function keyGetter(runtime: Runtime, attribute: Value | undefined, caseSensitive: Value | undefined): Getter {
  const get = getter(runtime, attribute);
  if (truth(caseSensitive ?? false)) return get;
  return (item) => {
    const value = get(item);
    const text = stringOf(value);
    if (text === undefined) return value;
    runtime.bounds.spend(text.length / 16);
    return text.toLowerCase();
  };
}

/** Returns values in the order of their keys. Equal ones keep their order. */
function sorted({ bounds }: Runtime, items: readonly Value[], key: Getter, reverse: Value | undefined): Value[] {
  bounds.spend(items.length * Math.log2(items.length + 2));
  const direction = truth(reverse ?? false) ? -1 : 1;
  const keyed = items.map((item) => [key(item), item] as const);
  return keyed.sort(([a], [b]) => direction * (compare(a, b, bounds) || 0)).map(([, item]) => item);
}

/** Returns an iterator that reads a value when it is used. */
const lazily = (name: string, body: () => Generator<Value>): Iter => new Iter(`generator ${name}`, body());

/** Returns a filter that chooses items by a test, of themselves or of an attribute. */
const selecting = (name: string, wanted: boolean, attribute: boolean): Filter =>
  filter("*", (runtime, value, args, kwargs) =>
    lazily(name, function* () {
      if (!truth(value)) return;
      const [first, ...others] = args as Value[];
      if (attribute && first === undefined) fail("Missing parameter for attribute name");
      const get = attribute ? getter(runtime, first) : (item: Value) => item;
      const [test, ...rest] = attribute ? others : (args as Value[]);
      for (const item of iterate(value, runtime.bounds)) {
        const subject = get(item);
        const chosen =
          test === undefined ? truth(subject) : runtime.test(needText(test, "a test"), subject, rest, kwargs);
        if (chosen === wanted) yield item;
      }
    }),
  );

const extreme = (direction: number): Filter =>
  filter("case_sensitive? attribute?", (runtime, value, [caseSensitive, attribute]) => {
    const key = keyGetter(runtime, attribute, caseSensitive);
    let best: readonly [key: Value, item: Value] | null = null;
    for (const item of iterate(value, runtime.bounds)) {
      const own = key(item);
      if (!best || direction * compare(own, best[0], runtime.bounds) < 0) best = [own, item];
    }
    return best ? best[1] : runtime.undefined("No aggregated item, sequence was empty.");
  });

export const listFilters: Readonly<Record<string, Filter>> = {
  batch: filter("linecount fill_with?", ({ bounds }, value, [count, fill = null]) =>
    lazily("do_batch", function* () {
      const size = needInt(count, 0, "linecount");
      bounds.checkLength(size);
      let line: Value[] = [];
      for (const item of iterate(value, bounds)) {
        if (line.length === size) {
          yield line;
          line = [];
        }
        line.push(item);
      }
      if (line.length === 0) return;
      bounds.spend(size / 16);
      if (fill !== null && line.length < size) line = [...line, ...Array<Value>(size - line.length).fill(fill)];
      yield line;
    }),
  ),
  dictsort: filter("case_sensitive? by? reverse?", (runtime, value, [caseSensitive, by = "key", reverse]) => {
    if (by !== "key" && by !== "value") fail('You can only sort by either "key" or "value"');
    if (value instanceof Undefined) value.fail();
    if (!(value instanceof Dict)) return fail(`'${typeName(value)}' object has no attribute 'items'`);
    const items = Array.from(value.entries(), (entry) => new Tuple(entry));
    return sorted(runtime, items, keyGetter(runtime, by === "key" ? 0 : 1, caseSensitive), reverse);
  }),
  first: filter("", (runtime, value) => {
    for (const item of iterate(value, runtime.bounds)) return item;
    return runtime.undefined("No first item, sequence was empty.");
  }),
  groupby: filter("attribute default? case_sensitive?", (runtime, value, [attribute, usual, caseSensitive]) => {
    const get = getter(runtime, attribute, usual);
    const key = (item: Value): Value => {
      const own = get(item);
      const text = truth(caseSensitive ?? false) ? undefined : stringOf(own);
      return text?.toLowerCase() ?? own;
    };
    const groups: { key: Value; items: Value[] }[] = [];
    for (const item of sorted(runtime, [...iterate(value, runtime.bounds)], key, false)) {
      const own = key(item);
      const last = groups.at(-1);
      if (last && compare(last.key, own, runtime.bounds) === 0) last.items.push(item);
      else groups.push({ key: own, items: [item] });
    }
    return groups.map(({ items }) => new Group([get(items[0]!), items]));
  }),
  items: filter("", (_, value) =>
    lazily("do_items", function* () {
      if (value instanceof Undefined) return;
      if (!(value instanceof Dict)) return fail("Can only get item pairs from a mapping.");
      for (const entry of value.entries()) yield new Tuple(entry);
    }),
  ),
  join: filter("d? attribute?", (runtime, value, [separator = "", attribute]) => {
    const { bounds } = runtime;
    const [get, between] = [getter(runtime, attribute), shownText(separator, bounds)];
    const all = new TextBuilder();
    let first = true;
    for (const item of iterate(value, bounds)) {
      if (!first) all.add(between);
      first = false;
      all.add(shownText(get(item), bounds));
      bounds.checkLength(all.length);
    }
    return all.value;
  }),
  last: filter("", (runtime, value) => {
    if (value instanceof Iter || (sizeOf(value) === undefined && !(value instanceof Undefined)))
      fail(`'${typeName(value)}' object is not reversible`);
    const items = isList(value) ? value : [...iterate(value, runtime.bounds)];
    const last = items.at(-1);
    return last === undefined ? runtime.undefined("No last item, sequence was empty.") : last;
  }),
  list: filter("", ({ bounds }, value) => [...iterate(value, bounds)]),
  map: filter("*", (runtime, value, args, kwargs) =>
    lazily("sync_do_map", function* () {
      if (!truth(value)) return;
      const [name, ...rest] = args as Value[];
      let change: Getter;
      if (name === undefined) {
        const { attribute, ...others } = Object.fromEntries(kwargs);
        if (attribute === undefined) fail("map requires a filter argument");
        const unknown = Object.keys(others).find((key) => key !== "default");
        if (unknown !== undefined) fail(`Unexpected keyword argument '${unknown}'`);
        change = getter(runtime, attribute, others.default);
      } else change = (item) => runtime.filter(needText(name, "a filter"), item, rest, kwargs);
      for (const item of iterate(value, runtime.bounds)) yield change(item);
    }),
  ),
  max: extreme(-1),
  min: extreme(1),
  random: filter("", (runtime, value) => {
    const items = [...iterate(value, runtime.bounds)];
    return firstOf(
      () => items[Math.floor(Math.random() * items.length)],
      () => runtime.undefined("No random item, sequence was empty."),
    );
  }),
  reject: selecting("select_or_reject", false, false),
  rejectattr: selecting("select_or_reject", false, true),
  reverse: filter("", ({ bounds }, value) => {
    const text = stringOf(value);
    const items = [...iterate(value, bounds)].reverse();
    if (text !== undefined) return remarked(joinTexts(items as (string | Text)[]), value);
    return value instanceof Iter ? items : new Iter("list_reverseiterator", items.values());
  }),
  select: selecting("select_or_reject", true, false),
  selectattr: selecting("select_or_reject", true, true),
  slice: filter("slices fill_with?", ({ bounds }, value, [count, fill = null]) =>
    lazily("sync_do_slice", function* () {
      const items = [...iterate(value, bounds)];
      const slices = needInt(count, 0, "slices");
      if (slices === 0) fail("integer division or modulo by zero");
      const [each, longer] = [Math.floor(items.length / slices), items.length % slices];
      for (let i = 0, from = 0; i < slices; i++) {
        bounds.spend(1);
        const size = each + (i < longer ? 1 : 0);
        yield [...items.slice(from, from + size), ...(fill !== null && i >= longer ? [fill] : [])];
        from += size;
      }
    }),
  ),
  sort: filter("reverse? case_sensitive? attribute?", (runtime, value, [reverse, caseSensitive, attribute]) => {
    const names = stringOf(attribute)?.split(",") ?? [attribute];
    const keys = names.map((name) => keyGetter(runtime, name, caseSensitive));
    const key: Getter = (item) => keys.map((get) => get(item));
    return sorted(runtime, [...iterate(value, runtime.bounds)], key, reverse);
  }),
  sum: filter("attribute? start?", (runtime, value, [attribute, start = 0]) => {
    const get = getter(runtime, attribute);
    let total = start;
    for (const item of iterate(value, runtime.bounds)) total = arithmetic("+", total, get(item), runtime.bounds);
    return total;
  }),
  unique: filter("case_sensitive? attribute?", (runtime, value, [caseSensitive, attribute]) =>
    lazily("sync_do_unique", function* () {
      const key = keyGetter(runtime, attribute, caseSensitive);
      const seen = new Dict();
      for (const item of iterate(value, runtime.bounds)) {
        const own = key(item);
        runtime.bounds.spend((stringOf(own)?.length ?? 0) / 64);
        if (seen.has(own)) continue;
        seen.set(own, null);
        yield item;
      }
    }),
  ),
};

/** A group of groupby(): a pair whose parts have names. */
class Group extends Tuple {
  override attribute(name: string): Value | undefined {
    return name === "grouper" ? this.items[0] : name === "list" ? this.items[1] : undefined;
  }
}
