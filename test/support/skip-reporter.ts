/** Ends the output of a run with the skipped tests: how many there are for each reason. */
import type { Reporter, TestCase, TestModule, TestSuite, Vitest } from "vitest/node";
import "./skip.js";

export default class SkipReporter implements Reporter {
  #filter: RegExp | undefined;

  onInit(vitest: Vitest): void {
    this.#filter = vitest.config.testNamePattern;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = new Map<string, number>();
    for (const module of modules)
      for (const test of module.children.allTests("skipped")) {
        // `-t` skips what it does not name.
        if (this.#filter && !this.#filter.test(test.fullName)) continue;
        const reason = reasonOf(test);
        counts.set(reason, (counts.get(reason) ?? 0) + 1);
      }
    if (counts.size === 0) return;
    const lines = [...counts]
      .sort(([, a], [, b]) => b - a)
      .map(([reason, count]) => `${String(count).padStart(7)}  ${reason}`);
    console.log(`Skipped tests, by reason:\n${lines.join("\n")}\n`);
  }
}

function reasonOf(test: TestCase): string {
  const result = test.result();
  if (result.state === "skipped" && result.note) return result.note;
  const stated = test.meta().skipped ?? inherited(test.parent);
  return stated ?? `no reason is given: ${test.module.relativeModuleId} > ${test.fullName}`;
}

function inherited(suite: TestSuite | TestModule): string | undefined {
  return suite.meta().skipped ?? (suite.type === "suite" ? inherited(suite.parent) : undefined);
}
