// Translates lines from standard input with a Marian, T5 or CTranslate2 model, and shows the alternatives that the beam
// search found.
//
//   echo "Guten Morgen" | node examples/translate.ts Helsinki-NLP/opus-mt-de-en
import { text } from "node:stream/consumers";
import { load } from "heed";

const [source = "Helsinki-NLP/opus-mt-de-en"] = process.argv.slice(2);
using model = await load(source, { kind: "encoder-decoder" });
const lines = (await text(process.stdin)).split("\n").filter((line) => line !== "");

// One call translates all lines as one batch.
const all = await model.translations(lines, { beams: 4, nBest: 3 });
for (const [i, translations] of all.entries()) {
  console.log(lines[i]);
  for (const { text, score } of translations) console.log(`  ${score.toFixed(2)} ${text}`);
}
