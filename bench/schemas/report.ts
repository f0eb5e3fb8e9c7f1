// The results of bench:schemas as lines for the terminal and as a section of the page of benchmarks.
import { timeText } from "../statistics.js";

/** Median, 99th percentile and largest of some times, and the longest of them without a turn of the event loop; in ms. */
export interface Times {
  count: number;
  median: number;
  p99: number;
  max: number;
  longestTurn: number;
}

/** Findings about a collection of schemas. */
export interface SchemasRow {
  collection: string;
  count: number;
  accepted: number;
  /** Numbers of the schemas that were refused, by the keyword for which they were. */
  refused: Record<string, number>;
  /** Texts that were drawn and judged, those among them that ajv refuses, and those that it could not judge. */
  texts: { drawn: number; refused: number; unknown: number };
  compile: Times;
  masks: Times;
  /** Names of the schemas with the largest times and of those with texts that ajv refuses. */
  notable: Record<string, string[]>;
}

/** A whole run in the form that `--write` keeps. */
export interface SchemasRun {
  machine: string;
  date: string;
  vocabulary: string;
  /** Texts that are drawn of each schema. */
  texts: number;
  rows: SchemasRow[];
}

/** Smallest share of the schemas of a collection that heed is to accept. */
const goals: Readonly<Record<string, number>> = {
  ...{ all: 0.85, Github_easy: 0.92, Github_medium: 0.8, Github_hard: 0.6, Kubernetes: 0.97, JsonSchemaStore: 0.45 },
};

const shareOf = ({ accepted, count }: SchemasRow): number => accepted / count;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Returns a row as a line for the terminal. */
export function line(row: SchemasRow): string {
  const { collection, accepted, count, texts, compile, masks } = row;
  return (
    `${collection}: ${accepted} of ${count} accepted (${percent(shareOf(row))}${goalText(row)}); ` +
    `${texts.drawn} texts, ajv refuses ${texts.refused}; compiling ${timesText(compile)}; ` +
    `masks ${timesText(masks)}; refused: ${refusedText(row)}`
  );
}

function goalText(row: SchemasRow): string {
  const goal = goals[row.collection];
  return goal === undefined ? "" : `, goal ${percent(goal)}, ${shareOf(row) >= goal ? "met" : "SHORT"}`;
}

function timesText({ median, p99, max, longestTurn }: Times): string {
  const texts = [median, p99, max, longestTurn].map(timeText);
  return `${texts.slice(0, 3).join(" / ")} ms, longest turn ${texts[3]!} ms`;
}

function refusedText({ refused }: SchemasRow): string {
  const list = Object.entries(refused).sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return list.map(([name, count]) => `${name} ${count}`).join(", ") || "none";
}

/** Says how schemas are measured, at the beginning of their section of the page. */
export const schemasHead = `## JSON schemas

Schemas of JSONSchemaBench (Geng et al. 2025, arXiv:2501.10868): what heed accepts, if ajv finds texts of it valid, and
the milliseconds that it takes to compile a schema and to find the tokens that may follow at one place of a text. Texts
are drawn from each accepted schema at random. Tokens are found along these texts, and along texts of any tokens that may
follow. What was found for a schema before is kept for the next one, as a server does. A few made-up schemas come first and
are not counted, so that V8 has compiled the code. "Turn" is the longest time for which the event loop did not run. Where
other programs had the processor, only heed's own time counts. A schema with a place that took more than 5 ms is measured
again up to twice, with nothing that was found before, and the least times count: a virtual machine may halt anywhere.
\`npm run bench:schemas -- --write\` renews this section.`;

/** Returns the part of the section about one machine. */
export function schemasSection(run: SchemasRun): string {
  const times = ({ median, p99, max, longestTurn }: Times): string[] => [median, p99, max, longestTurn].map(timeText);
  const rows = run.rows.map((row) => {
    const goal = goals[row.collection];
    const { drawn, refused, unknown } = row.texts;
    const cells = [
      row.collection === "all" ? "all" : row.collection.replaceAll("_", " "),
      ...[row.count, row.accepted].map((n) => n.toLocaleString("en")),
      percent(shareOf(row)),
      goal === undefined ? "–" : percent(goal),
      ...[drawn, refused, unknown].map((n) => n.toLocaleString("en")),
      ...times(row.compile),
      ...times(row.masks),
    ];
    return `| ${cells.join(" | ")} |`;
  });
  const total = run.rows.find(({ collection }) => collection === "all");
  return [
    `### JSON schemas on ${run.machine}`,
    "",
    `Measured on ${run.date} with ${run.texts} texts of each schema and ${run.vocabulary}. Times are the median / the 99th`,
    "percentile / the longest / the longest turn. ajv could not judge some texts, because it fails or takes too long itself.",
    "",
    "| collection | schemas | accepted | share | goal | texts | ajv refuses | not judged | compiling | p99 | max | turn | masks | p99 | max | turn |",
    "| ---------- | ------: | -------: | ----: | ---: | ----: | ----------: | ---------: | --------: | --: | --: | ---: | ----: | --: | --: | ---: |",
    ...rows,
    "",
    "Schemas that heed refuses, by the keyword that it names:",
    "",
    ...run.rows
      .filter(({ collection }) => collection !== "all")
      .map((row) => `- ${row.collection.replaceAll("_", " ")}: ${refusedText(row)}`),
    ...(total ? [`- all: ${refusedText(total)}`] : []),
  ].join("\n");
}
