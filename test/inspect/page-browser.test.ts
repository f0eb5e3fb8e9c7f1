/** The page of `heed inspect` in a browser, opened as a file. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { inspectionPage, runWithCache } from "../../lib/inspect/index.js";
import { GPT } from "../../lib/models/gpt.js";
import { T5 } from "../../lib/models/t5.js";
import { patience } from "../support/child.js";
import { launch, noChromium } from "../support/chromium.js";
import { dist } from "../support/dist.js";
import { sharedFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { shaken } from "../support/shaken.js";
import { describeUnless, nightlyOnly, testUnless } from "../support/skip.js";

const html = `<img src=x onerror="document.title='run'">`;
const words = ["Call", " me", " Ishmael", ".", " Some", "\n", html, " years"];

describeUnless(noChromium)("in Chromium (apt-get install chromium, or HEED_CHROMIUM)", () => {
  const folder = sharedFolder();
  const files = { decoder: path.join(folder, "decoder.html"), pair: path.join(folder, "pair.html") };
  let browser: Browser;
  let problems: string[];
  /** Attention of head 1 in layer 1, [T, T]. */
  let pattern: Float32Array;

  beforeAll(async () => {
    dist("inspect/web/index.html");
    const textOf = (id: number): string => words[id]!;
    const ids = tensor(
      Int32Array.from(words, (_, id) => id),
      [1, 8],
    );
    using model = shaken(new GPT({ vocabularySize: 8, contextLength: 8, layers: 2, heads: 2, width: 8 }));
    writeFileSync(files.decoder, await inspectionPage(model, ids, { textOf, title: html }));
    using cache = runWithCache(model, ids, { names: "blocks.1.attn.hook_pattern" });
    pattern = (await cache.get("blocks.1.attn.hook_pattern").data()).slice(64);
    using t5 = shaken(new T5({ vocabularySize: 8, layers: 1, heads: 2, width: 8 }));
    const target = tensor(Int32Array.of(0, 4, 7), [1, 3]);
    writeFileSync(files.pair, await inspectionPage(t5, { source: ids, target }, { textOf }));
    browser = await launch();
  });
  afterAll(() => browser?.close());

  /** Opens a file. Errors of its script and requests become `problems`. */
  async function open(file: string, width = 1280): Promise<Page> {
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: "light" });
    onTestFinished(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("request", (request) => {
      const url = request.url();
      if (url !== pathToFileURL(file).href && !/^(data|blob):/.test(url)) problems.push(url);
    });
    await page.goto(pathToFileURL(file).href);
    return page;
  }

  const percent = (row: number, column: number): number => 100 * pattern[row * 8 + column]!;
  const reading = (page: Page): Promise<string | null> => page.locator(".head .reading").first().textContent();
  /** Resolves when the reading names all parts of a text, and returns it. */
  const readingOf = async (page: Page, text: string): Promise<string> => {
    await page.locator(".head .reading", { hasText: text }).first().waitFor();
    return (await reading(page))!;
  };

  test("attention of a head, with the pointer and with keys alone", async () => {
    const page = await open(files.decoder);
    expect(await page.locator("#title").textContent()).toBe(html);
    expect(await page.locator(".token").count()).toBe(8);
    await page.getByRole("button", { name: "Layer 1, head 1" }).click();
    await page.getByRole("heading", { name: "Layer 1, head 1" }).waitFor();
    await page.locator(".token").nth(4).click();
    const list = await readingOf(page, "␣Some (4) attends to");
    for (const [, token, share] of list.matchAll(/\((\d)\) ([\d.]+) %/g))
      expect(Math.abs(percent(4, Number(token)) - Number(share))).toBeLessThan(0.5);

    // Tab into the matrix, and read a cell.
    await page.locator("canvas.map").focus();
    for (const key of ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown"])
      await page.keyboard.press(key);
    const cell = await readingOf(page, ". (3) attends to ␣me (1): ");
    expect(Math.abs(percent(3, 1) - Number(/: ([\d.]+) %/.exec(cell)![1]))).toBeLessThan(0.5);
    await page.keyboard.press("Escape");
    expect(await page.locator(".token[aria-selected=true]").count()).toBe(0);
    await page.locator(".tokens").focus();
    for (const key of ["ArrowRight", "ArrowRight", "Enter"]) await page.keyboard.press(key);
    expect(await page.locator(".token[aria-selected=true]").textContent()).toBe("␣me");

    await page.getByRole("button", { name: "Add a head beside" }).click();
    await page.locator(".head").nth(1).waitFor();
    await page.getByLabel("arcs").check();
    await page.locator("canvas.map[aria-label*='a token that attends']").nth(1).waitFor();
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.title()).toBe(`${html} – heed inspect`);
    expect(problems).toEqual([]);
  });

  test("the other views", async () => {
    const page = await open(files.decoder);
    await page.getByRole("tab", { name: "Attention" }).focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.locator(".lens tbody tr").count()).toBe(3);
    await page.locator(".lens td[tabindex='0']").focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.locator("#panel-1 .reading").textContent()).toMatch(/^output, after ␣me \(1\): .* %, /);
    await page.getByRole("tab", { name: "Lens" }).focus();
    await page.keyboard.press("ArrowRight");
    const panel = page.getByRole("tabpanel", { name: "Attribution" });
    await panel.locator("select").selectOption("2");
    expect(await page.locator(".token[aria-selected=true]").textContent()).toBe("␣Ishmael");
    const total = Number(
      /: ([+−][\d.]+) /.exec((await panel.locator(".reading").textContent())!)![1]!.replace("−", "-"),
    );
    const numbers = await panel.locator(".bars").first().locator(".number").allTextContents();
    const sum = numbers.reduce((all, text) => all + Number(text.replace("−", "-")), 0);
    expect(Math.abs(sum - total)).toBeLessThan(0.02);
    await page.getByRole("tab", { name: "Ablations" }).click();
    expect(await page.locator("#panel-3 .heat tbody td").count()).toBe(2 * 3);
    await page.getByRole("tab", { name: "Neurons" }).click();
    await page.locator("#panel-4 canvas.map").focus();
    for (const key of ["ArrowRight", "Enter"]) await page.keyboard.press(key);
    await page.locator("#panel-4 .reading", { hasText: /^neuron \d+ is most active at / }).waitFor();
    expect(problems).toEqual([]);
  });

  testUnless(!nightly && nightlyOnly)(
    "512 tokens and 12 · 12 heads are shown without a wait",
    { timeout: 120_000 * patience },
    async () => {
      const length = 512;
      using model = shaken(new GPT({ vocabularySize: 8, contextLength: length, layers: 12, heads: 12, width: 24 }));
      const ids = tensor(
        Int32Array.from({ length }, (_, t) => (t * t) % 8),
        [1, length],
      );
      const file = path.join(folder, "long.html");
      const textOf = (id: number): string => words[id]!;
      writeFileSync(file, await inspectionPage(model, ids, { textOf, ablations: false, neurons: 8 }));
      const page = await open(file);
      await page.locator("canvas.map").first().waitFor();
      // Milliseconds since the navigation began
      expect(await page.evaluate<number>("performance.now()")).toBeLessThan(5000 * patience);
      /** Resolves to the milliseconds until an action has shown its result. */
      const timed = async (action: () => Promise<void>): Promise<number> => {
        const start = performance.now();
        await action();
        return performance.now() - start;
      };
      const chosen = await timed(async () => {
        await page.getByRole("button", { name: "Layer 3, head 7" }).click();
        await page.getByRole("heading", { name: "Layer 3, head 7" }).waitFor();
      });
      expect(chosen).toBeLessThan(1500 * patience);
      const selected = await timed(async () => {
        await page.locator(".token").nth(300).click();
        await readingOf(page, "(300) attends to");
      });
      expect(selected).toBeLessThan(1500 * patience);
      const box = (await page.locator("canvas.map").first().boundingBox())!;
      const moved = await timed(async () => {
        for (let i = 0; i < 20; i++) await page.mouse.move(box.x + box.width / 2 + 3 * i, box.y + 200);
      });
      expect(moved / 20).toBeLessThan(100 * patience);
      expect(problems).toEqual([]);
    },
  );

  test.for([375, 1280])("source and target, light and dark, at a width of %d pixels", async (width) => {
    const page = await open(files.pair, width);
    const background = () => page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
    expect(await background()).toBe("rgb(255, 255, 255)");
    await page.getByRole("button", { name: "Dark" }).click();
    expect(await background()).not.toBe("rgb(255, 255, 255)");
    await page.getByLabel("Attention of").selectOption({ label: "Decoder to source" });
    await page.locator(".token", { hasText: "years" }).last().click();
    await readingOf(page, "␣years (2) attends to");
    for (const tab of await page.getByRole("tab").all()) {
      await tab.click();
      expect(await page.evaluate<number>("document.scrollingElement.scrollWidth - innerWidth")).toBe(0);
    }
    expect(problems).toEqual([]);
  });
});
