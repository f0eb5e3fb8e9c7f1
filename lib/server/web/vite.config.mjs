// Builds the playground into one file, dist/server/web/index.html: the server then has one route for it, works under every
// prefix, and allows the browser this script and this style alone, by their hashes.
//
//   npm run build:web                  builds it
//   npx vite lib/server/web            shows it while it is written, with a `heed serve` at port 8080
import { defineConfig } from "vite";
import { singleFilePage } from "../../../scripts/vite-single-file.mjs";

const routes = ["/v1", "/health", "/openapi.json"];

export default defineConfig({
  ...singleFilePage(import.meta.url, "server/web"),
  server: { proxy: Object.fromEntries(routes.map((route) => [route, "http://127.0.0.1:8080"])) },
});
