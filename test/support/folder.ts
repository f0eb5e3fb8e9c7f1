/** Makes folders for the files that tests write. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, onTestFinished } from "vitest";

const make = (): string => mkdtempSync(path.join(tmpdir(), "heed-"));
const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });

/** Makes a folder that is removed after the test. */
export function temporaryFolder(): string {
  const folder = make();
  onTestFinished(() => remove(folder));
  return folder;
}

/** Makes a folder that the tests of a file, or of a group, share. It is removed after the last of them. */
export function sharedFolder(): string {
  const folder = make();
  afterAll(() => remove(folder));
  return folder;
}
