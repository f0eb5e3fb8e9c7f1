// A search by meaning: it prints the lines of a file that are closest to a question.
//
//   node examples/search.ts notes.txt "how do whales breathe?"
import { readFileSync } from "node:fs";
import { load } from "heed";

const [file = "notes.txt", question = "", source = "sentence-transformers/all-MiniLM-L6-v2"] = process.argv.slice(2);
using encoder = await load(source, { kind: "encoder" });
const lines = readFileSync(file, "utf8")
  .split("\n")
  .filter((line) => line.trim() !== "");

// The vectors have length 1, so that their scalar product is the cosine of the angle between them.
const options = { normalize: true, batchSize: 32 };
const vectors = await encoder.embed(lines, options);
const [wanted] = await encoder.embed([question], options);
const similarity = (vector: Float32Array): number => vector.reduce((sum, value, i) => sum + value * wanted![i]!, 0);

const found = lines.map((line, i) => ({ line, score: similarity(vectors[i]!) }));
found.sort((a, b) => b.score - a.score);
for (const { line, score } of found.slice(0, 5)) console.log(score.toFixed(3), line);
