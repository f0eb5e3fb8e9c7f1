// The documentation's site: `npm run docs` writes the API reference (TypeDoc, docs/reference) and builds the pages into
// build/docs; `npx vitepress dev docs` shows them while they are written. With HEED_DOCS_CHECK=1 (.ci/run) the pages have
// neither coloured code nor an index for the search, which take a third of the time and find no fault.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitepress";

const docs = fileURLToPath(new URL("..", import.meta.url));
const guides = [
  ["Train a GPT", "train"],
  ["Train with several processes", "distributed"],
  ["Prepare data", "data"],
  ["Fine-tune a model", "fine-tune"],
  ["See and evaluate", "evaluation"],
  ["Chat with a model", "chat"],
  ["Serve many requests", "serving"],
  ["Serve models over HTTP", "server"],
  ["Deploy a server", "deploy"],
  ["Embeddings", "embeddings"],
  ["Models for the AI SDK", "ai-sdk"],
  ["Models for LangChain", "langchain"],
  ["heed in TensorFlow.js", "tensorflow-js"],
  ["Inside a transformer", "inside-a-transformer"],
  ["heed from C", "c-interface"],
  ["Devices and CUDA", "devices"],
  ["Memory and disposal", "memory"],
  ["Make it fast", "performance"],
  ["Write an operation", "operation"],
  ["Write a model", "model-family"],
];
const performance = [
  ["Matrix products", "gemm"],
  ["Attention", "attention"],
  ["Elementwise operations", "elementwise"],
  ["Quantisation", "quantization"],
  ["Training", "training"],
  ["Decoding", "decoding"],
  ["Loading", "loading"],
  ["How peers are measured", "peers"],
];
const pages = (folder, list) => list.map(([text, name]) => ({ text, link: `/${folder}/${name}` }));
/** Entries of the API reference, which TypeDoc writes; an empty list before it has run. */
const sidebar = path.join(docs, "reference/typedoc-sidebar.json");
const entries = existsSync(sidebar) ? JSON.parse(readFileSync(sidebar, "utf8")) : [];

/** Returns the modules among entries of the reference; kinds such as "Functions" have no page. */
const modulesOf = (entries) =>
  entries.flatMap((entry) => [...(entry.link?.endsWith("/") ? [entry] : []), ...modulesOf(entry.items ?? [])]);

/**
 * Returns a sidebar for each folder of the reference: the modules, and what is of the same module and kind. With all of
 * the reference in it, a page would be four times as large.
 */
function referenceSidebars() {
  const modules = modulesOf(entries);
  const top = { text: "Reference", link: "/reference/", items: modules.map(({ text, link }) => ({ text, link })) };
  const sidebars = { "/reference/": [top] };
  for (const { text, link, items } of modules) {
    const kinds = items.filter((item) => !item.link && item.items[0]?.link);
    const slug = (kind) => kind.toLowerCase().replaceAll(" ", "-");
    const all = { text, link, items: kinds.map((kind) => ({ text: kind.text, link: `${link}#${slug(kind.text)}` })) };
    sidebars[link] = [top, all];
    for (const kind of kinds)
      sidebars[`${link}${slug(kind.text)}/`] = [top, all, { text: kind.text, items: kind.items }];
  }
  return sidebars;
}

/** Shows a link to a file of the repository that is no page of the site as its text alone. */
function withoutOutsideLinks(markdown) {
  const within = (env, href) => {
    if (/^([a-z]+:|#|\/)/.test(href)) return true;
    const file = path.resolve(docs, path.dirname(env.relativePath ?? ""), href.replace(/#.*/, ""));
    return file.startsWith(docs);
  };
  markdown.core.ruler.push("outside-links", ({ tokens, env }) => {
    for (const { children } of tokens)
      if (children) {
        let outside = false;
        for (const token of children) {
          if (token.type === "link_open") outside = !within(env, token.attrGet("href"));
          if (outside && /^link_(open|close)$/.test(token.type))
            Object.assign(token, { type: "text", tag: "", content: "" });
        }
      }
  });
}

/** Leaves nothing for Vue in a page: it would evaluate "{{ … }}" of a chat template. */
function plain(markdown) {
  withoutOutsideLinks(markdown);
  const { text } = markdown.renderer.rules;
  markdown.renderer.rules.text = (...given) => text(...given).replaceAll("{{", "&#123;&#123;");
}

const isCheck = process.env.HEED_DOCS_CHECK === "1";
const escaped = (code) => code.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const uncoloured = { highlight: (code) => `<pre v-pre><code>${escaped(code)}</code></pre>` };

export default defineConfig({
  title: "heed",
  description: "The transformer engine for Node.js",
  outDir: "../build/docs",
  cacheDir: "../build/docs-cache",
  cleanUrls: true,
  // "<unk>" in a docstring is text, not a tag of HTML.
  markdown: { html: false, config: plain, ...(isCheck ? uncoloured : {}) },
  themeConfig: {
    search: isCheck ? undefined : { provider: "local" },
    outline: [2, 3],
    nav: [
      { text: "Guides", link: "/guides/train" },
      { text: "Reference", link: "/reference/" },
      { text: "Architecture", link: "/architecture" },
    ],
    sidebar: {
      ...referenceSidebars(),
      "/": [
        { text: "Guides", items: pages("guides", guides) },
        {
          text: "How heed works",
          items: [
            { text: "Architecture", link: "/architecture" },
            { text: "Testing", link: "/testing" },
            { text: "Limits", link: "/limits" },
            { text: "The software CUDA device", link: "/simulator" },
            { text: "Style", link: "/style" },
            { text: "Glossary", link: "/glossary" },
          ],
        },
        {
          text: "Measurements",
          items: [
            { text: "Benchmarks", link: "/benchmarks" },
            { text: "CUDA kernels", link: "/kernels" },
            { text: "Overview", link: "/performance" },
            ...pages("performance", performance),
            { text: "Scaling", link: "/scaling" },
            { text: "Experiments", link: "/experiments/README" },
          ],
        },
      ],
    },
  },
});
