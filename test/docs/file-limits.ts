/** The formats of files that heed reads, with the limits of what is in them. The types name every format. */
import { pieceLength } from "../../lib/data/bytes.js";
import { usualLongestLine } from "../../lib/data/blocks.js";
import type { compressions, DataFormat } from "../../lib/data/inputs.js";
import { longestObject } from "../../lib/data/json-lines.js";
import {
  bytesPerByte,
  freeBytes,
  freeCells,
  freeTakenOver,
  freeValues,
  valuesPerByte,
} from "../../lib/data/parquet-limits.js";
import { longestText } from "../../lib/data/read-records.js";
import { longestRow } from "../../lib/data/tables.js";
import { mostBlock, mostWindow } from "../../lib/data/zstd.js";
import { referringSteps, usualSteps } from "../../lib/evaluation/python-regex.js";
import { mostBytes } from "../../lib/util/files.js";
import { mostAliased } from "../../lib/formats/ctranslate2.js";
import { longestHeader } from "../../lib/formats/gguf.js";
import { mostTensors } from "../../lib/formats/gguf-header.js";
import { maxHeaderLength } from "../../lib/formats/safetensors-header.js";
import { longestLine } from "../../lib/util/lines.js";
import type { ModelSource } from "../../lib/pretrained/model-source.js";
import { mostTokens } from "../../lib/tokenizer/added-tokens.js";
import { maxSourceLength } from "../../lib/tokenizer/jinja/bounds.js";
import { mostRanks } from "../../lib/tokenizer/merge-parts.js";
import { bytes, count } from "./limits-text.js";

/** A part of a format: its limit as a number, what the number counts, and what a value at the limit costs. */
export interface FileLimit {
  part: string;
  most: number;
  unit: "bytes" | "characters" | "values" | "tokens" | "steps" | "tensors" | "times the file";
  cost: string;
}

const jsonFile: FileLimit = { part: "a file of JSON", most: mostBytes, unit: "bytes", cost: "read whole, parsed in turns" }; // prettier-ignore
const data: Record<DataFormat, FileLimit[]> = {
  text: [
    { part: "a document for readRecords", most: longestText, unit: "characters", cost: "in memory as one text; writeShards cuts it" }, // prettier-ignore
    { part: "what is read at once", most: pieceLength, unit: "bytes", cost: "its memory, however long the file is" },
  ],
  jsonl: [{ part: "a line", most: usualLongestLine, unit: "bytes", cost: "in memory as a whole; a longer one is left out" }], // prettier-ignore
  json: [
    { part: "an object that is the whole file", most: longestObject, unit: "bytes", cost: "in memory as a whole; arrays are read by element" }, // prettier-ignore
    { part: "an element of an array", most: usualLongestLine, unit: "bytes", cost: "in memory as a whole; a longer one is left out" }, // prettier-ignore
  ],
  csv: [
    { part: "a row", most: longestRow, unit: "bytes", cost: "in memory as a whole; a longer one ends the reading" },
  ],
  tsv: [
    { part: "a row", most: longestRow, unit: "bytes", cost: "in memory as a whole; a longer one ends the reading" },
  ],
  parquet: [
    {
      part: "values of a page, or 8 for each of its bytes",
      most: freeValues,
      unit: "values",
      cost: "an array of them",
    },
    { part: `bytes of a page, or ${bytesPerByte} for each that is stored`, most: freeBytes, unit: "bytes", cost: "its memory" }, // prettier-ignore
    { part: "cells that are decoded at once, or one for each byte of the group", most: freeCells, unit: "values", cost: "an object for each row" }, // prettier-ignore
    {
      part: "what the texts of a page take over from each other",
      most: freeTakenOver,
      unit: "bytes",
      cost: "their memory",
    },
    { part: "values of a column of lists in a group", most: 2 * freeValues, unit: "values", cost: "an array of them" },
  ],
};
if (valuesPerByte !== 8) throw new Error("expected the table to say how many values a byte may have");

const packed: Record<(typeof compressions)[keyof typeof compressions], FileLimit[]> = {
  gzip: [{ part: "what is decompressed at once", most: pieceLength, unit: "bytes", cost: "its memory, however long the content is" }], // prettier-ignore
  zstd: [
    { part: "the window", most: mostWindow, unit: "bytes", cost: "its memory" },
    {
      part: "a block",
      most: mostBlock,
      unit: "bytes",
      cost: "decompressed at once on Node.js 20; later ones take 1 MiB",
    },
  ],
};

const tensors: FileLimit = { part: "the parameters that config.json asks for", most: 2, unit: "times the file", cost: "their memory, which tensors of the file must fill" }; // prettier-ignore
const models: Record<ModelSource["format"], FileLimit[]> = {
  folder: [
    { part: "the header of model.safetensors", most: maxHeaderLength, unit: "bytes", cost: "parsed in turns" },
    { ...jsonFile, part: "config.json, tokenizer.json and other files of JSON" },
    tensors,
    { part: "the merges of a tokenizer", most: mostRanks, unit: "values", cost: "12 bytes each" },
    { part: "the ids of added tokens", most: mostTokens, unit: "tokens", cost: "a table of them" },
    {
      part: "a chat template",
      most: maxSourceLength,
      unit: "characters",
      cost: "parsed once; its work is limited too",
    },
  ],
  adapter: [
    { part: "the header of adapter_model.safetensors", most: maxHeaderLength, unit: "bytes", cost: "parsed in turns" },
    { ...jsonFile, part: "adapter_config.json" },
  ],
  ctranslate2: [
    { part: "variables that stand for others", most: mostAliased, unit: "times the file", cost: "their memory" },
  ],
  gguf: [
    { part: "the header", most: longestHeader, unit: "bytes", cost: "read whole" },
    { part: "the tensors", most: mostTensors, unit: "tensors", cost: "an entry for each" },
  ],
  llama2c: [
    { ...jsonFile, part: "tokenizer.bin" },
    { ...tensors, part: "the parameters that the header asks for", most: 1 },
  ],
};

const others = {
  "tasks of heed eval (YAML)": [
    { part: "the file", most: mostBytes, unit: "bytes", cost: "read whole" },
    { part: "a search by a pattern", most: usualSteps, unit: "steps", cost: "seconds; it grows with the text, not with the pattern's choices" }, // prettier-ignore
    { part: "a search by a pattern that refers to groups", most: referringSteps, unit: "steps", cost: "a second, then it is refused by name" }, // prettier-ignore
  ],
  "batches, logs of runs, and texts from stdin": [
    { part: "a line", most: longestLine, unit: "bytes", cost: "in memory as a whole; a longer one ends the run" },
  ],
} satisfies Record<string, FileLimit[]>;

/** All formats, by the names under which the page lists them. */
export const fileLimits: Readonly<Record<string, readonly FileLimit[]>> = {
  ...Object.fromEntries(Object.entries(data).map(([name, limits]) => [`data: ${name}`, limits])),
  ...Object.fromEntries(Object.entries(packed).map(([name, limits]) => [`data, compressed: ${name}`, limits])),
  ...Object.fromEntries(Object.entries(models).map(([name, limits]) => [`models: ${name}`, limits])),
  ...others,
};

/** Returns the rows of the table of file formats. */
export function fileRows(): string[][] {
  return Object.entries(fileLimits).flatMap(([format, limits]) =>
    limits.map(({ part, most, unit, cost }) => [
      format,
      part,
      unit === "bytes" ? bytes(most) : `${count(most)} ${unit}`,
      cost,
    ]),
  );
}
