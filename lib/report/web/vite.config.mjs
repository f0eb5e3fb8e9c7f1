// Builds the report's page into one file, dist/report/web/index.html, into which lib/report/training-report.ts puts the
// runs.
//
//   npm run build:web                  builds it
//   npx vite lib/report/web            shows it while it is written; put runs into index.html for the time being
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { buildOptions, singleFile } from "../../../scripts/single-file.mjs";

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./",
  logLevel: "warn",
  plugins: [singleFile],
  build: buildOptions("../../../dist/report/web"),
});
