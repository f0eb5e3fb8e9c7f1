// Builds the playground into one file, dist/server/web/index.html: the server then has one route for it, works under every
// prefix, and allows the browser this script and this style alone, by their hashes.
//
//   npm run build:web                  builds it
//   npx vite lib/server/web            shows it while it is written, with a `heed serve` at port 8080
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

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

const routes = ["/v1", "/health", "/openapi.json"];

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./",
  logLevel: "warn",
  plugins: [singleFile],
  build: {
    outDir: "../../../dist/server/web",
    emptyOutDir: true,
    target: ["es2022", "chrome123", "firefox120", "safari17.5"],
    modulePreload: false,
  },
  server: { proxy: Object.fromEntries(routes.map((route) => [route, "http://127.0.0.1:8080"])) },
});
