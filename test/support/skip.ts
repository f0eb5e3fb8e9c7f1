/** Skips tests for a reason, which the closing lines of a run name (skip-reporter.ts). */
import { describe, test } from "vitest";

declare module "vitest" {
  interface TaskMeta {
    /** The reason why a test, or every test of a suite, is skipped. */
    skipped?: string;
  }
}

/** A reason; anything else means that there is none. */
type Reason = string | false | null | undefined;

/** Returns `describe`; if there is a reason, a `describe` that skips its tests for it. */
export const describeUnless = (reason: Reason): ReturnType<typeof describe.skipIf> =>
  reason ? withReason(describe.skipIf(true), reason) : describe;

/** Returns `test`; if there is a reason, a `test` that is skipped for it. */
export const testUnless = (reason: Reason): ReturnType<typeof test.skipIf> =>
  reason ? withReason(test.skipIf(true), reason) : test;

/** Reason of tests that need not run on every device. */
export const oneDevice = "run on another device: one is enough";

/** Reason of tests that need not run on every architecture of models. */
export const oneModel = "run with another model: one is enough";

/** Reason of tests of what GPT-2 does not have. */
export const otherModels = "have no meaning for GPT-2";

/** Reason of tests that run in other versions of Node.js. */
export const otherNodes = "need other versions of Node.js (npm ci --prefix test/nodes)";

/** Reason of tests that take too long for every change. */
export const nightlyOnly = "run at night (HEED_FUZZ=nightly)";

/** Reason of tests that read what only Linux has. */
export const linuxOnly = "need Linux";

type Call = (...args: unknown[]) => unknown;

/** Returns a function of vitest, such as `describe.skip`, that notes the reason in all that it registers. */
function withReason<T extends object>(api: T, reason: string): T {
  return new Proxy(api, {
    apply(target, self, args: unknown[]): unknown {
      const made = Reflect.apply(target as Call, self, typeof args[0] === "string" ? noted(args, reason) : args);
      // `each` and `for` return the function that registers.
      return typeof made === "function" ? withReason(made as Call, reason) : made;
    },
    get(target, key): unknown {
      const value: unknown = Reflect.get(target, key);
      if (typeof key !== "string" || typeof value !== "function") return value;
      return withReason((value as Call).bind(target), reason);
    },
  });
}

/** Returns the arguments of a test or suite, which are its name, its options and its function, with the reason. */
function noted([name, ...rest]: unknown[], reason: string): unknown[] {
  const options = rest.find((value) => typeof value === "object");
  return [name, { ...options!, meta: { skipped: reason } }, rest.find((value) => typeof value === "function")];
}
