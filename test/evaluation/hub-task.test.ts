/** Tasks whose documents are a data set of the hub: which files are a split's, and what they may contain. */
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { expect, test } from "vitest";
import { defineTask } from "../../lib/evaluation/task.js";
import { HubServer } from "../hub/server.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

const fields = {
  ...{ task: "t", dataset_path: "owner/tiny", test_split: "test", training_split: "train" },
  ...{ output_type: "multiple_choice", doc_to_text: "{{question}}", doc_to_choice: ["a", "b"], doc_to_target: "label" },
};

const parquet = Buffer.from(
  parquetWriteBuffer({
    columnData: [
      { name: "question", data: ["one?", "two?"], type: "STRING" },
      { name: "label", data: [0n, 1n], type: "INT64" },
    ],
  }),
);

test("a split is found by its name, downloaded alone, and read from every format", async () => {
  const lines = (...questions: string[]): Buffer =>
    Buffer.from(questions.map((question) => `${JSON.stringify({ question, label: 1 })}\n`).join(""));
  await using hub = await HubServer.start({
    "README.md": { content: Buffer.from("# A data set") },
    "main/test-00000-of-00001.parquet": { content: parquet, large: true },
    "main/train.jsonl.gz": { content: gzipSync(lines("three?")) },
    "main/contest.jsonl": { content: lines("no split") },
    "other/my_test.csv": { content: Buffer.from('question,label\n"four, or five?",0\n') },
    "other/dev/one.jsonl": { content: lines("six?") },
    "other/tested.jsonl": { content: lines("no split") },
  });
  hub.dataset = true;
  const options = { hub: { cacheDir: temporaryFolder(), hubUrl: hub.url } };
  const main = await defineTask({ ...fields, dataset_name: "main" }, options);
  expect(main.documents).toEqual([
    { question: "one?", label: 0 },
    { question: "two?", label: 1 },
  ]);
  // Without examples in prompts, their split is not downloaded.
  expect([main.examples, hub.downloads.length]).toEqual([null, 1]);
  const shots = await defineTask({ ...fields, dataset_name: "main", num_fewshot: 1 }, options);
  expect(shots.examples).toEqual([{ question: "three?", label: 1 }]);
  const others = await defineTask({ ...fields, dataset_name: "other" }, options);
  expect(others.documents).toEqual([{ question: "four, or five?", label: 0 }]);
  const dev = { ...fields, test_split: undefined, dataset_name: "other", validation_split: "validation" };
  expect((await defineTask(dev, options)).documents).toEqual([{ question: "six?", label: 1 }]);
  const named = { ...fields, dataset_kwargs: { data_files: { test: "*/contest*" }, revision: hub.commit } };
  expect((await defineTask(named, options)).documents).toEqual([{ question: "no split", label: 1 }]);
  expect(hub.downloads).toHaveLength(5);

  const both = defineTask(fields, options);
  await expectRejection(both, "ERR_FORMAT", /dataset_name to be main or other, because the split test of owner\/tiny/);
  await expectRejection(defineTask({ ...fields, test_split: "test[:10]" }, options), "ERR_FORMAT", /name of a split/);
  const missing = defineTask({ ...fields, test_split: "hidden" }, options);
  await expectRejection(missing, "ERR_IO", /owner\/tiny: expected files of a data set, got none/);
});
