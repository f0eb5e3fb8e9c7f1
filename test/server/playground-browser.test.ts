/** The playground in a browser. */
import fastify from "fastify";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { heedServer } from "../../lib/server/index.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { launch, noChromium } from "../support/chromium.js";
import { dist } from "../support/dist.js";
import { describeUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { embeddingModel, start, until } from "./support.js";

// Large enough that thousands of tokens are not there before a slow browser can stop them.
const size = { contextLength: 4096, layers: 4, heads: 4, width: 64 };
/** A name, a message and tokens that are HTML. */
const html = `<img src=x onerror="document.title='run'">`;
const chatTemplate = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}assistant: ";
const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
const chatting = new LanguageModel({ model: smallGpt("cpu", { vocabularySize: 272, ...size }), tokenizer });
const plain = new LanguageModel({
  model: smallGpt("cpu", { vocabularySize: 256, ...size }),
  tokenizer: new ByteTokenizer(),
});
const models = { vectors: embeddingModel(), [html]: chatting, plain };

describeUnless(noChromium)("in Chromium (apt-get install chromium, or HEED_CHROMIUM)", () => {
  let browser: Browser;
  let context: BrowserContext;
  let problems: string[];

  beforeAll(async () => {
    dist("server/web/index.html");
    browser = await launch();
  });
  afterAll(() => browser?.close());

  /** Opens a page at 1280 pixels' width. Errors of its script, of the policy, and foreign requests become `problems`. */
  async function open(url: string, width = 1280): Promise<Page> {
    context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: "light" });
    onTestFinished(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("console", (message) => {
      // Statuses that a test asks for are no fault of the page.
      if (message.type() === "error" && !/status of (400|401|503)/.test(message.text())) problems.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(`${new URL(url).origin}/`) && !request.url().startsWith("data:"))
        problems.push(request.url());
    });
    await page.goto(url);
    return page;
  }

  const set = async (page: Page, values: Record<string, string | number>): Promise<void> => {
    await page.evaluate("document.querySelector('details').open = true");
    for (const [name, value] of Object.entries(values)) await page.fill(`[name=${name}]`, String(value));
  };
  const finished = (page: Page) => page.locator("article[aria-busy=false] footer", { hasText: "prompt of" }).last();
  const answerOf = (page: Page) => page.locator("article.assistant .text").last();

  test("chats, with the probabilities of tokens", async () => {
    const { url, post } = await start({ models });
    const page = await open(url);
    expect(await page.locator("#model option").allTextContents()).toEqual([html]);
    await set(page, {
      system: "Be brief.",
      max_tokens: 40,
      min_tokens: 40,
      seed: 1,
      temperature: 0.8,
      stop: "\\n\n??",
    });
    await page.fill("#message", html);
    const request = page.waitForRequest(`${url}/v1/chat/completions`);
    await page.press("#message", "Enter");
    const body = (await request).postDataJSON() as object;
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: html },
    ];
    const sampling = { max_tokens: 40, min_tokens: 40, seed: 1, temperature: 0.8, stop: ["\n", "??"] };
    const streaming = { stream: true, stream_options: { include_usage: true } };
    expect(body).toEqual({ model: html, messages, ...sampling, ...streaming, logprobs: true, top_logprobs: 5 });

    // The page shows what the server answers to the same request without a stream.
    interface Answered {
      message: { content: string };
      logprobs: { content: { token: string; top_logprobs: { token: string; logprob: number }[] }[] };
    }
    const whole = await post("/v1/chat/completions", { ...body, stream: false, stream_options: undefined });
    const [choice] = ((await whole.json()) as { choices: Answered[] }).choices;
    expect(await finished(page).textContent()).toMatch(
      /^\d+ tokens · [\d.]+ tokens\/s · first token after \d+\.\d\d s · prompt of \d+ tokens/,
    );
    expect(await answerOf(page).textContent()).toBe(choice!.message.content);

    // A name, a message and an answer stay text.
    expect(await page.locator("article.user .text").textContent()).toBe(html);
    expect(await page.locator("article.assistant h2").textContent()).toBe(html);
    expect(await page.locator("img").count()).toBe(0);

    const tokens = answerOf(page).locator(".token");
    const box = page.locator("#alternatives");
    expect(await box.isVisible()).toBe(false);
    await tokens.first().hover();
    const best = choice!.logprobs.content[0]!.top_logprobs.map(
      ({ logprob }) => `${(100 * Math.exp(logprob)).toFixed(1)} %`,
    );
    expect((await box.locator("td.number").allTextContents()).slice(0, 5)).toEqual(best);
    expect(await box.locator("tr.chosen").count()).toBe(1);
    await page.mouse.move(0, 0);
    expect(await box.isVisible()).toBe(false);
    await answerOf(page).focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    expect(await tokens.nth(1).getAttribute("class")).toContain("current");
    expect(await box.isVisible()).toBe(true);
    await page.keyboard.press("Escape");
    expect(await box.isVisible()).toBe(false);

    // The same seed gives the same text again; another message another one.
    const texts = page.locator("article .text");
    const before = await texts.allTextContents();
    await page.getByRole("button", { name: "Regenerate" }).dblclick();
    await until(async () => (await finished(page).count()) === 1);
    expect(await texts.allTextContents()).toEqual(before);
    await page.getByRole("button", { name: "Edit" }).first().click();
    await page.getByLabel("Text of the message").fill("changed");
    await page.keyboard.press("Control+Enter");
    expect(await texts.first().textContent()).toBe("changed");
    await page.getByRole("button", { name: "Regenerate" }).click();
    await until(async () => (await finished(page).count()) === 1 && (await texts.nth(1).textContent()) !== before[1]);
    await page.getByRole("button", { name: "Delete" }).last().click();
    expect(await texts.allTextContents()).toEqual(["changed"]);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.getByRole("button", { name: "Copy" }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    expect(await page.evaluate("navigator.clipboard.readText()")).toBe("changed");
    expect(await page.title()).toBe("heed playground");
    expect(problems).toEqual([]);
  });

  test("stops an answer, and the server with it", async () => {
    const { url, metric } = await start({ models });
    const page = await open(url);
    await set(page, { max_tokens: 4000, min_tokens: 4000 });
    for (const stop of [() => page.keyboard.press("Escape"), () => page.locator("#composer .stop").click()]) {
      await page.fill("#message", "Go on");
      await page.press("#message", "Enter");
      await until(async () => (await answerOf(page).locator(".token").count()) > 3);
      await stop();
      expect(await page.locator("article.assistant footer").last().textContent()).toMatch(/ · stopped$/);
      await until(async () => (await metric("heed_engine_requests_running")) === 0);
    }
    expect(await page.locator("#composer .send").isVisible()).toBe(true);
    expect(problems).toEqual([]);
  });

  test("continues a text", async () => {
    const { url, answer } = await start({ models: { plain } });
    // There is nothing to chat with, so the page begins with the completion; it also works at the address without a slash.
    const page = await open(url);
    await set(page, { max_tokens: 20, min_tokens: 20, seed: 2 });
    await page.uncheck("[name=probabilities]");
    await page.fill("#prompt", "Call me");
    await page.press("#prompt", "Control+Enter");
    const parameters = { prompt: "Call me", max_tokens: 20, min_tokens: 20, seed: 2 };
    const { choices } = await answer<{ choices: { text: string }[] }>("/v1/completions", parameters);
    await finished(page).waitFor();
    expect(await answerOf(page).textContent()).toBe(choices[0]!.text);
    expect(await page.locator(".token").count()).toBe(0);
    await page.getByRole("button", { name: "Add to the text" }).click();
    expect(await page.locator("#output article").count()).toBe(0);
    expect((await page.inputValue("#prompt")).startsWith("Call me")).toBe(true);
    expect(problems).toEqual([]);
  });

  test("answers that contain HTML, and errors in the middle of an answer", async () => {
    const { url } = await start({ models });
    const page = await open(url);
    const logprob = { token: html, logprob: -1, top_logprobs: [{ token: html, logprob: -1 }] };
    const choices = [{ delta: { content: html }, logprobs: { content: [logprob] }, finish_reason: null }];
    const events = [{ choices }, { error: { message: `Broken ${html}` } }];
    const body = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("");
    await page.route("**/v1/chat/completions", (route) => route.fulfill({ body, contentType: "text/event-stream" }));
    await page.fill("#message", "a");
    await page.press("#message", "Enter");
    expect(await page.locator(".message .failure").textContent()).toContain(`Broken ${html}`);
    expect(await answerOf(page).textContent()).toBe(html);
    await answerOf(page).locator(".token").hover();
    expect(await page.locator("#alternatives th").textContent()).toBe(html.replaceAll(" ", "␣"));
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.title()).toBe("heed playground");
    // An answer may have no tokens at all.
    const usage = { prompt_tokens: 3, completion_tokens: 0 };
    const nothing = `data: ${JSON.stringify({ choices: [], usage })}\n\ndata: [DONE]\n\n`;
    await page.route("**/v1/completions", (route) =>
      route.fulfill({ body: nothing, contentType: "text/event-stream" }),
    );
    await page.getByText("Completion", { exact: true }).click();
    await page.getByRole("button", { name: "Continue" }).click();
    await page.locator("#output footer", { hasText: /^0 tokens · prompt of 3 tokens$/ }).waitFor();
    expect(problems).toEqual([]);
  });

  test("errors in words, a key, and a prefix", async () => {
    const app = fastify();
    onTestFinished(() => app.close());
    await app.register(heedServer, { models, prefix: "/llm", apiKeys: ["secret"] });
    const url = `${await app.listen({ host: "127.0.0.1", port: 0 })}/llm`;
    const page = await open(url);
    for (const key of ["wrong", "secret"]) {
      await page.getByLabel("This server asks for an API key.").fill(key);
      await page.keyboard.press("Enter");
    }
    await until(async () => (await page.locator("#model option").count()) === 1);
    expect(await page.locator("#key-form").isVisible()).toBe(false);
    await set(page, { top_p: 7, max_tokens: 5, min_tokens: 5 });
    await page.fill("#message", "a");
    await page.press("#message", "Enter");
    const failure = page.locator(".message .failure");
    expect(await failure.textContent()).toMatch(/^top_p: must be <= 1, got 7. Try again$/);
    await set(page, { top_p: "" });
    await failure.getByRole("button").click();
    await finished(page).waitFor();
    expect(await failure.count()).toBe(0);
    await app.close();
    await page.getByRole("button", { name: "Regenerate" }).click();
    expect(await failure.textContent()).toContain("The server cannot be reached.");
    expect(problems.filter((problem) => !problem.includes("ERR_CONNECTION_REFUSED"))).toEqual([]);
  });

  test.for([375, 1280])("light and dark, at a width of %d pixels", async (width) => {
    const { url } = await start({ models });
    const page = await open(url, width);
    const background = () => page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
    expect(await background()).toBe("rgb(255, 255, 255)");
    await page.emulateMedia({ colorScheme: "dark" });
    const light = page.getByRole("button", { name: "Light" });
    await light.waitFor();
    expect(await background()).not.toBe("rgb(255, 255, 255)");
    await light.click();
    expect(await background()).toBe("rgb(255, 255, 255)");
    await page.reload();
    expect(await background()).toBe("rgb(255, 255, 255)");
    // Nothing is wider than the page, and the settings can be reached.
    const overflow = () => page.evaluate<number>("document.scrollingElement.scrollWidth - innerWidth");
    expect(await overflow()).toBe(0);
    const settings = page.getByRole("button", { name: "Settings", exact: true });
    expect(await settings.isVisible()).toBe(width < 800);
    if (width < 800) await settings.click();
    expect(await page.getByLabel("Temperature").isVisible()).toBe(true);
    expect(await overflow()).toBe(0);
    expect(problems).toEqual([]);
  });

  test("the tab key reaches everything in the order of the page", async () => {
    const { url } = await start({ models });
    const page = await open(url);
    for (let i = 0; i < 4; i++) await page.keyboard.press("Shift+Tab");
    // The fields of the mode are invisible under their labels, which have the ring.
    const focused = `(({ id, name, className, labels }) => {
      const ringed = labels?.[0]?.querySelector("input + span") ?? document.activeElement;
      return getComputedStyle(ringed).outlineStyle === "none" ? "no ring" : id || name || className;
    })(document.activeElement)`;
    const reached: string[] = [];
    for (let i = 0; i < 6; i++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate<string>(focused));
    }
    expect(reached).toEqual(["mode", "model", "theme", "message", "primary send", "system"]);
  });
});
