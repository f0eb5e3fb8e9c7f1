// Writes data/gpt2-ranks.br, the vocabulary of GPT-2's tokenizer, from the development dependency gpt-tokenizer, whose
// other files a user has no use for. The file is Brotli of all tokens in the order of their ranks: a byte with the
// token's length, and its bytes. Every build runs this script, and so do the tests before they start.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";

const folder = fileURLToPath(new URL("../data", import.meta.url));
const file = `${folder}/gpt2-ranks.br`;
if (!existsSync(file)) {
  const { default: ranks } = await import("gpt-tokenizer/bpeRanks/r50k_base");
  const tokens = ranks.map((token) => Buffer.from(token));
  const packed = brotliCompressSync(Buffer.concat(tokens.flatMap((token) => [Buffer.of(token.length), token])));
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, packed);
}
