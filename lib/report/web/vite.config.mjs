// Builds the report's page into one file, dist/report/web/index.html, into which lib/report/training-report.ts puts the
// runs.
//
//   npm run build:web                  builds it
//   npx vite lib/report/web            shows it while it is written; put runs into index.html for the time being
import { defineConfig } from "vite";
import { singleFilePage } from "../../../scripts/vite-single-file.mjs";

export default defineConfig(singleFilePage(import.meta.url, "report/web"));
