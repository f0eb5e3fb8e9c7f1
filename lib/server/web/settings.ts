// The settings: a form whose empty fields stand for the model's own values. The browser keeps them for the next visit.
import type { ThemeStore } from "../../web/theme.js";
import { byId } from "./dom.js";

const form = byId("settings-form", HTMLFormElement);
const storageName = "heed-playground";

/** Number of alternatives that a request asks for at each token. */
const alternatives = 5;

/** Returns the system prompt, or an empty text. */
export function systemPrompt(): string {
  return field("system").value.trim();
}

/** Returns the parameters of a request that the settings ask for. A chat writes that of the probabilities differently. */
export function parameters(mode: "chat" | "completion"): Record<string, unknown> {
  const numbers = [...form.querySelectorAll<HTMLInputElement>("input[type=number]")];
  const given = numbers.filter(({ value }) => value !== "").map(({ name, value }) => [name, Number(value)] as const);
  const stop = field("stop")
    .value.split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replaceAll("\\n", "\n"));
  const chat = mode === "chat";
  return {
    ...Object.fromEntries(given),
    ...(stop.length > 0 && { stop }),
    ...(isChecked("probabilities") &&
      (chat ? { logprobs: true, top_logprobs: alternatives } : { logprobs: alternatives })),
  };
}

/** Restores the settings of the last visit, and keeps those of this one. */
export function keepSettings(): void {
  const kept = stored();
  for (const one of fields())
    if (one.name in kept) {
      if (isCheckbox(one)) one.checked = Boolean(kept[one.name]);
      else one.value = String(kept[one.name]);
    }
  const save = (): void => {
    const values = fields().map((one) => [one.name, isCheckbox(one) ? one.checked : one.value]);
    store({ ...stored(), ...(Object.fromEntries(values) as object) });
    apply();
  };
  form.addEventListener("input", save);
  // The fields have their values of the beginning only after the event.
  form.addEventListener("reset", () => setTimeout(save));
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

/** Place of the reader's choice of light or dark, which is kept with the settings. */
export const themeStore: ThemeStore = {
  read: () => stored().theme as string | undefined,
  write: (theme) => store({ ...stored(), theme }),
};

function apply(): void {
  document.body.classList.toggle("coloured", isChecked("colours"));
}

function fields(): (HTMLInputElement | HTMLTextAreaElement)[] {
  return [...form.querySelectorAll<HTMLInputElement | HTMLTextAreaElement>("input, textarea")];
}

function field(name: string): HTMLTextAreaElement {
  return form.elements.namedItem(name) as HTMLTextAreaElement;
}

function isChecked(name: string): boolean {
  return (form.elements.namedItem(name) as HTMLInputElement).checked;
}

function isCheckbox(one: HTMLElement): one is HTMLInputElement {
  return one instanceof HTMLInputElement && one.type === "checkbox";
}

function stored(): Record<string, unknown> {
  try {
    return JSON.parse(localStorage.getItem(storageName) ?? "{}") as Record<string, unknown>;
  } catch {
    return {};
  }
}

function store(values: object): void {
  try {
    localStorage.setItem(storageName, JSON.stringify(values));
  } catch {
    // A browser that keeps nothing still has the settings of this visit.
  }
}
