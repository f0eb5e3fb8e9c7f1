import { bytesText } from "../util/bytes-text.js";
import type { ServedSummary } from "../server/served-models.js";

/** Returns a line that says what was chosen for a model. */
export function chosenLine({ id, ...chosen }: ServedSummary): string {
  const { dtype, device, activations, weightsBytes, contextLength, kvMemory, kvType } = chosen;
  const keys = kvMemory === null ? "" : `, at most ${bytesText(kvMemory)} of keys and values in ${kvType}`;
  const context = `a context of ${contextLength.toLocaleString("en")} tokens`;
  const rounded = activations === null ? "" : ` (activations may be rounded to ${activations} bits)`;
  return `${id}: ${dtype} on ${device}, ${bytesText(weightsBytes)} of weights${rounded}, ${context}${keys}`;
}
