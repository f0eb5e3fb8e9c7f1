// Answers a question from the Markdown files of a folder, in one process: vectors find sections that may hold the answer,
// a cross-encoder puts the best of them first, and a language model writes the answer from those.
//
//   node examples/answers.ts docs "How do I free the memory of a tensor?"
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { load } from "heed";

const [folder = "docs", question = "", ...names] = process.argv.slice(2);
const [vectors, ranks, language] = names;
using encoder = await load(vectors ?? "sentence-transformers/all-MiniLM-L6-v2", { kind: "encoder" });
using reranker = await load(ranks ?? "cross-encoder/ms-marco-MiniLM-L6-v2", { kind: "classifier" });
using model = await load(language ?? "Qwen/Qwen3-0.6B", { kind: "causal" });

// A section begins at a heading.
const sections = readdirSync(folder, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".md"))
  .flatMap((file) => {
    const parts = readFileSync(path.join(folder, file), "utf8").split(/^(?=#+ )/m);
    return parts.filter((text) => text.trim() !== "").map((text) => ({ file, text }));
  });

// The vectors have length 1, so that their scalar product is the cosine of the angle between them.
const [wanted, ...found] = await encoder.embed([question, ...sections.map(({ text }) => text)], { normalize: true });
const near = sections
  .map((section, i) => ({ ...section, cosine: found[i]!.reduce((sum, value, j) => sum + value * wanted![j]!, 0) }))
  .sort((a, b) => b.cosine - a.cosine)
  .slice(0, 20);
const texts = near.map(({ text }) => text);
const best = (await reranker.rank(question, texts, { top: 3 })).map(({ index }) => near[index]!);

const context = best.map(({ file, text }) => `${file}:\n${text.slice(0, 1500)}`).join("\n\n");
const messages = [
  { role: "system", content: `Answer the question from these texts only.\n\n${context}` },
  { role: "user", content: question },
];
const answer = model.chat(messages, { temperature: 0 });
for await (const { text } of answer) process.stdout.write(text);
console.log(`\n\nFrom: ${[...new Set(best.map(({ file }) => file))].join(", ")}`);
