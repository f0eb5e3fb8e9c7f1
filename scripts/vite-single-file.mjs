// The configuration of Vite for heed's pages, each of which becomes one file with its script and its style inside.
import { fileURLToPath } from "node:url";

/** Puts the script and the style into the page. */
const singleFile = {
  name: "single-file",
  enforce: "post",
  generateBundle(_options, bundle) {
    const page = bundle["index.html"];
    const take = (file) => {
      const { code, source } = bundle[file];
      delete bundle[file];
      return (code ?? source).trim();
    };
    page.source = page.source
      .replace(/<script type="module"[^>]* src="\.\/([^"]+)"><\/script>/, (_tag, file) => {
        return `<script type="module">${take(file)}</script>`;
      })
      .replace(/<link rel="stylesheet"[^>]* href="\.\/([^"]+)">/, (_tag, file) => `<style>${take(file)}</style>`);
    const left = Object.keys(bundle).filter((file) => file !== "index.html");
    if (left.length > 0) throw new Error(`expected a page of one file, got also ${left.join(", ")}`);
  },
};

/** Returns the configuration for the page whose folder has the vite.config.mjs at `url`, built into a folder of dist/. */
export function singleFilePage(url, outDir) {
  return {
    root: fileURLToPath(new URL(".", url)),
    base: "./",
    logLevel: "warn",
    plugins: [singleFile],
    build: {
      outDir: fileURLToPath(new URL(`../dist/${outDir}`, import.meta.url)),
      emptyOutDir: true,
      target: ["es2022", "chrome123", "firefox120", "safari17.5"],
      modulePreload: false,
    },
  };
}
