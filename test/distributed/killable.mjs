// Runs heed's command line after telling the process' id: killable.mjs MAIN ARGUMENTS…
import { pathToFileURL } from "node:url";

process.stdout.write(`pid ${process.env.OMPI_COMM_WORLD_RANK ?? process.env.PMI_RANK} ${process.pid}\n`);
process.argv.splice(1, 1);
await import(pathToFileURL(process.argv[1]).href);
