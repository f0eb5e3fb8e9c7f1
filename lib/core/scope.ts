import { checkFunction } from "../util/check.js";
import { HeedError } from "../util/errors.js";

/** Object that is disposed at the end of the scope it was made in. */
interface Scoped {
  dispose(): void;
  /** @internal Scope that disposes the object; null or undefined if none does. */
  scope?: Scope | null;
}

/** @internal Objects that are disposed together, at the end of a call of `scope`. */
export class Scope {
  readonly members = new Set<Scoped>();
}

/** Innermost scope; null outside every scope. */
let current: Scope | null = null;

/** @internal Adds `member` to the innermost scope, which disposes it at its end. */
export function enterScope(member: Scoped): void {
  join(member, current);
}

function join(member: Scoped, scope: Scope | null): void {
  scope?.members.add(member);
  member.scope = scope;
}

/** @internal Removes `member` from the scope it is in, if any. */
export function leaveScope(member: Scoped): void {
  member.scope?.members.delete(member);
  member.scope = null;
}

/** Adds to `found` the members of a scope that a result contains. */
function collect(members: Set<Scoped>, value: unknown, found: Set<unknown>): void {
  if (typeof value !== "object" || value === null || found.has(value)) return;
  found.add(value);
  if (members.has(value as Scoped)) return;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (Array.isArray(value)) for (const item of value) collect(members, item, found);
  else if (prototype === Object.prototype || prototype === null)
    for (const item of Object.values(value)) collect(members, item, found);
}

/**
 * Runs `body`, returns its result and disposes every tensor that was made inside. It does not dispose tensors that
 * `body` returns (alone, or in arrays and plain objects) or that were given to `keep`, parameters and their gradients.
 * Memory that a recorded graph needs for `backward()` stays until the graph is freed.
 *
 * `body` must be synchronous: operations only enqueue, so nothing in it has to wait. Read the results outside.
 *
 * @example
 * const total = scope(() => sum(square(x))); // frees the squares and keeps the sum
 * await total.item();
 *
 * @throws ERR_ARGUMENT if `body` is not a function or returns a promise.
 */
export function scope<T>(body: () => T): T {
  checkFunction("scope", body);
  const outer = current;
  const kept = new Set<unknown>();
  current = new Scope();
  const { members } = current;
  try {
    const result = body();
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw new HeedError(
        "ERR_ARGUMENT",
        "scope: expected a synchronous function, got one that returns a promise; await it outside of scope()",
      );
    }
    collect(members, result, kept);
    return result;
  } finally {
    current = outer;
    for (const member of members) {
      if (kept.has(member)) join(member, outer);
      else {
        member.scope = null;
        member.dispose();
      }
    }
  }
}

/**
 * Removes a tensor from its scope and returns it. It then outlives every scope, and you must dispose it.
 *
 * @example
 * const squares = scope(() => {
 *   const kept = keep(square(x));
 *   return { kept, total: sum(kept) };
 * });
 */
export function keep<T extends Scoped>(tensor: T): T {
  // A caller without types may pass anything.
  if ((tensor as Scoped | null | undefined)?.scope instanceof Scope) leaveScope(tensor);
  return tensor;
}
