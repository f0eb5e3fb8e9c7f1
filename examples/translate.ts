// Translates lines from standard input with a T5 or CTranslate2 model, and shows the alternatives that the beam search
// found. Marian's published models (Helsinki-NLP/opus-mt-…) do not load: heed reads neither their pytorch_model.bin nor
// their SentencePiece files.
//
//   echo "translate English to German: Good morning" | node examples/translate.ts google-t5/t5-small
import { text } from "node:stream/consumers";
import { load } from "heed";

const [source = "google-t5/t5-small"] = process.argv.slice(2);
using model = await load(source, { kind: "encoder-decoder" });
const lines = (await text(process.stdin)).split("\n").filter((line) => line !== "");

// One call translates all lines as one batch.
const all = await model.translations(lines, { beams: 4, nBest: 3 });
for (const [i, translations] of all.entries()) {
  console.log(lines[i]);
  for (const { text, score } of translations) console.log(`  ${score.toFixed(2)} ${text}`);
}
