/**
 * Vitest's runner, which skips the tests of CUDA if no CUDA device can be used. They are registered all the same, so that
 * a run says how many there are and why they are skipped.
 */
import { TestRunner, type TestContext } from "vitest";
import "./skip.js";

export default class Runner extends TestRunner {
  override extendTaskContext(context: TestContext): TestContext {
    // cuda.ts writes the reason, before any test is registered that it concerns.
    const reason = process.env.HEED_TEST_NO_CUDA;
    const { task } = context;
    if (reason && task.mode === "run" && /\bcuda:\d/.test(task.fullName)) {
      Object.assign(task, { mode: "skip" });
      task.meta.skipped = reason;
    }
    return super.extendTaskContext(context);
  }
}
