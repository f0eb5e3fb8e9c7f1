import { DivergedError } from "../../lib/generate/diverged.js";

/** Collects the outcome of several sequences, whether or not the model diverged on some of them. */
export async function settled<T>(running: Promise<T[]>): Promise<readonly PromiseSettledResult<T>[]> {
  try {
    return (await running).map((value) => ({ status: "fulfilled", value }));
  } catch (error) {
    if (error instanceof DivergedError) return (error as DivergedError<T>).results;
    throw error;
  }
}
