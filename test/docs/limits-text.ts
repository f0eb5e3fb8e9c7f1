/** Numbers and tables of docs/limits.md. */

/** Returns a number with its digits in groups. */
export function count(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? value.toLocaleString("en") : String(value);
}

/** Returns a number of bytes in the largest unit that is not above it. */
export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  const unit = value === 0 ? 0 : Math.max(0, Math.min(3, Math.floor(Math.log2(value) / 10)));
  return `${Number((value / 2 ** (10 * unit)).toFixed(1))} ${units[unit]}`;
}

/** Returns a table in Markdown. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
