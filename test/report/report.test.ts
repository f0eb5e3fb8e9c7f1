/** Logs of runs as they are read, and the report's page in a browser. */
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { readRun } from "../../lib/report/read-run.js";
import { thinned } from "../../lib/report/thinned.js";
import { trainingReport } from "../../lib/report/training-report.js";
import { launch, noChromium } from "../support/chromium.js";
import { dist } from "../support/dist.js";
import { sharedFolder, temporaryFolder } from "../support/folder.js";
import { describeUnless } from "../support/skip.js";
import { writeRun } from "./runs.js";

describe("readRun", () => {
  test("a run that was resumed has each step once, and the later one counts", async () => {
    const folder = path.join(temporaryFolder(), "whale");
    writeRun(folder, { steps: 40, resume: [25, 20] });
    const run = await readRun(folder);
    expect(run).toMatchObject({ name: "whale", resumed: [20], skipped: [7], state: "finished" });
    const { step, loss, seconds, gradientNorm } = run.steps;
    expect(step).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    const exact = (at: number, attempt: number): number => 1 + 3 * Math.exp(-at / 20) + attempt / 100;
    expect(loss[19]).toBe(exact(20, 0));
    expect(loss[20]).toBe(exact(21, 1));
    // The hour between the sessions, and the five steps that were lost, are no part of the run.
    expect([seconds[0], seconds[19], seconds[20], seconds[39]]).toEqual([1, 20, 21, 40]);
    expect(gradientNorm[6]).toBe(1e9);
    expect(run.evaluations.step).toEqual([10, 20, 30, 40]);
    expect(run.samples.map((sample) => sample.step)).toEqual([10, 20, 30, 40]);
    expect(await readRun(path.join(folder, "log.jsonl"))).toEqual(run);
  });

  test("a line without an end is refused before it fills the memory", async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, "log.jsonl");
    writeRun(folder, { steps: 2 });
    const lines = readFileSync(file, "utf8").split("\n").length;
    truncateSync(file, 2 ** 31);
    await expect(readRun(folder)).rejects.toMatchObject({
      code: "ERR_FORMAT",
      message: expect.stringContaining(`line ${lines}: expected a line of at most 67108864 bytes`) as string,
    });
  });

  test("a killed run ends in an unfinished line, and other broken lines are refused", async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, "log.jsonl");
    writeRun(folder, { steps: 5 });
    truncateSync(file, readFileSync(file).length - 10);
    expect(await readRun(folder)).toMatchObject({ state: "running", steps: { step: [1, 2, 3, 4, 5] } });
    appendFileSync(file, '\n{"type":"step"}\n');
    await expect(readRun(folder)).rejects.toMatchObject({
      code: "ERR_FORMAT",
      message: `${file}:7: expected an event of a training run as JSON, with type, step and time`,
    });
    writeFileSync(file, "");
    expect(await readRun(folder)).toMatchObject({ steps: { step: [] }, samples: [] });
    await expect(readRun(path.join(folder, "none"))).rejects.toMatchObject({ code: "ERR_IO" });
  });

  test("long curves are thinned by means, and keep the spikes of gradients", async () => {
    const folder = temporaryFolder();
    writeRun(folder, { steps: 25 });
    const run = await readRun(folder);
    expect(thinned(run, 25)).toBe(run);
    const { steps } = thinned(run, 10);
    expect(steps.step).toEqual([3, 6, 9, 12, 15, 18, 21, 24, 25]);
    expect(steps.loss[0]).toBeCloseTo((run.steps.loss[0]! + run.steps.loss[1]! + run.steps.loss[2]!) / 3, 12);
    expect(steps.gradientNorm[2]).toBe(1e9);
    expect(() => trainingReport([])).toThrow(/at least one run/);
  });
});

describeUnless(noChromium)("the page, in Chromium (apt-get install chromium, or HEED_CHROMIUM)", () => {
  const folder = sharedFolder();
  let browser: Browser;
  let url: string;

  beforeAll(async () => {
    dist("report/web/index.html");
    writeRun(path.join(folder, "small"), { steps: 40, resume: [25, 20] });
    // A name that is HTML, and a run without samples.
    writeRun(path.join(folder, "<img src=x>"), { steps: 30, scale: 0.8, samples: false });
    const runs = await Promise.all(["small", "<img src=x>"].map((name) => readRun(path.join(folder, name))));
    const file = path.join(folder, "report.html");
    writeFileSync(file, trainingReport(runs));
    url = pathToFileURL(file).href;
    browser = await launch();
  });
  afterAll(() => browser?.close());

  async function open(width: number, colorScheme: "light" | "dark"): Promise<{ page: Page; problems: string[] }> {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    onTestFinished(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    page.on("request", (request) => {
      if (request.url() !== url && !request.url().startsWith("data:")) problems.push(request.url());
    });
    await page.goto(url);
    return { page, problems };
  }

  test("shows and compares runs, and asks nobody for anything", async () => {
    const { page, problems } = await open(1280, "light");
    const html = readFileSync(path.join(folder, "report.html"), "utf8");
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\//);
    const rows = page.locator("#runs tbody tr");
    const cells = (await rows.nth(0).locator("th, td").allTextContents()).map((text) => text.trim());
    const loss = 1 + 3 * Math.exp(-2) + 0.01;
    expect(cells).toEqual([
      ...["small", "40", loss.toPrecision(4), `${(loss + 0.1).toPrecision(4)} (step 40)`],
      ...[Math.exp(loss + 0.1).toPrecision(4), "1,021", "0:40", "finished; resumed at 20; 1 step skipped"],
    ]);
    expect((await rows.nth(1).locator("th").textContent())!.trim()).toBe("<img src=x>");
    expect(await page.locator("img").count()).toBe(0);
    const titles = ["Training loss", "Validation loss", "Learning rate", "Norm of the gradients", "Tokens per second"];
    expect(await page.locator(".chart:visible h2").allTextContents()).toEqual(titles);
    expect(await page.locator(".chart canvas").count()).toBe(5);
    // A reader who does not see the curves gets their ends.
    expect(await page.locator(".plot").nth(1).getAttribute("aria-label")).toBe(
      "Validation loss: small from 2.92 to 1.516; <img src=x> from 2.356 to 1.436",
    );

    // The keyboard moves through the steps, and the values are those of the log.
    const plot = page.locator(".plot").nth(2);
    await plot.focus();
    await page.keyboard.press("Home");
    const values = page.locator(".values").nth(2);
    expect(await values.textContent()).toBe("Step 1 · small: 0.001 · <img src=x>: 0.001");
    await page.keyboard.press("ArrowRight");
    expect(await values.textContent()).toBe("Step 2 · small: 5.00e-4 · <img src=x>: 5.00e-4");
    await page.keyboard.press("End");
    expect(await values.textContent()).toContain("Step 40 · small: 2.50e-5");
    // The other charts follow.
    expect(await page.locator(".values").nth(1).textContent()).toContain("Step 40 · small: 1.516");

    // Runs can be hidden, the axis can be time, and the smoothing can be turned off.
    await rows.nth(1).locator("input").click();
    await plot.focus();
    await page.keyboard.press("Home");
    expect(await values.textContent()).toBe("Step 1 · small: 0.001");
    await page.getByLabel("minutes").check();
    await plot.focus();
    await page.keyboard.press("End");
    expect(await values.textContent()).toContain("0.67 minutes · small");
    await page.getByLabel("Logarithmic losses").check();
    await page.locator("[name=smoothing]").fill("0");
    expect(await page.locator("#smoothing-value").textContent()).toBe("0.00");

    // Samples over time, as text.
    expect(await page.locator(".sample").allTextContents()).toEqual(["Once <b>upon</b> step 40"]);
    await page.locator("#sample-choice").focus();
    await page.keyboard.press("ArrowLeft");
    expect(await page.locator("#sample-step").textContent()).toBe("30");
    expect(await page.locator(".sample").allTextContents()).toEqual(["Once <b>upon</b> step 30"]);
    expect(await page.title()).toBe("Training report: small, <img src=x>");
    expect(problems).toEqual([]);
  });

  test("fits a narrow screen, light and dark", async () => {
    const { page, problems } = await open(420, "dark");
    const overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    expect(await page.evaluate(overflow)).toBe(0);
    const background = "getComputedStyle(document.body).backgroundColor";
    const dark = await page.evaluate(background);
    const curve = page.locator(".chart canvas").first();
    const before = await curve.screenshot();
    await page.getByRole("button", { name: "Light" }).click();
    expect(await page.evaluate(background)).not.toBe(dark);
    expect((await curve.screenshot()).equals(before)).toBe(false);
    expect(await page.evaluate(overflow)).toBe(0);
    // The table scrolls within itself, also by the keyboard.
    expect(await page.locator(".wide").getAttribute("tabindex")).toBe("0");
    expect(problems).toEqual([]);
  });
});
