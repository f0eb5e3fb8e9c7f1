import { checkFunction } from "./check.js";
import { HeedError } from "./errors.js";

/** Something that lives until the scope it was made in ends. */
interface Scoped {
  dispose(): void;
}

interface Scope {
  readonly members: Set<Scoped>;
  readonly outer: Scope | null;
}

/** The innermost scope; null outside of any. */
let current: Scope | null = null;

/** @internal Makes `member` end with the innermost scope. */
export function enterScope(member: Scoped): void {
  current?.members.add(member);
}

/** @internal Takes `member` out of the scope it is in, if any. */
export function leaveScope(member: Scoped): void {
  for (let scope = current; scope; scope = scope.outer) if (scope.members.delete(member)) return;
}

/** The members of a scope that a result contains. */
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
 * Runs `body` and disposes every tensor made inside, except those it returns (alone, or in arrays and plain objects)
 * and those handed to `keep`. Parameters and gradients of parameters outlive scopes. What a recorded graph still needs
 * for `backward()` stays until the graph goes.
 *
 * `body` is synchronous: operations only enqueue, so nothing in it has to wait. Read results outside.
 */
export function scope<T>(body: () => T): T {
  checkFunction("scope", body);
  const outer = current;
  const members = new Set<Scoped>();
  const kept = new Set<unknown>();
  current = { members, outer };
  try {
    const result = body();
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw new HeedError("ERR_ARGUMENT", "scope: expected a synchronous function; await its results outside of it");
    }
    collect(members, result, kept);
    return result;
  } finally {
    current = outer;
    for (const member of members) {
      if (kept.has(member)) outer?.members.add(member);
      else member.dispose();
    }
  }
}

/** Lets a tensor outlive every scope; it is then yours to dispose. */
export function keep<T extends Scoped>(tensor: T): T {
  leaveScope(tensor);
  return tensor;
}
