// The playground: tries the models of the server that serves this page.
import { hide, showAlternatives } from "./alternatives.js";
import { listModels, type Model, ServerError } from "./api.js";
import { startChat } from "./chat.js";
import { startCompletion } from "./completion.js";
import { byId, element } from "./dom.js";
import { askForKey, whenKeyIsGiven } from "./key.js";
import { isRunning, stop } from "./run.js";
import { keepSettings, themeStore } from "./settings.js";
import { keepTheme } from "../../web/theme.js";

const routes = { chat: "/v1/chat/completions", completion: "/v1/completions" };
type Mode = keyof typeof routes;
const lacks: Record<Mode, string> = {
  chat: "No model of this server has a chat template. Try a completion instead.",
  completion: "No model of this server generates text.",
};

const chooser = byId("model", HTMLSelectElement);
const settings = byId("settings");
const toggle = byId("toggle-settings", HTMLButtonElement);
const failure = byId("failure");
let models: Model[] = [];

function mode(): Mode {
  return document.querySelector<HTMLInputElement>("input[name=mode]:checked")!.value as Mode;
}

/** Shows the mode that is chosen, and the models that have it. */
function showMode(): void {
  const chosen = mode();
  for (const name of Object.keys(routes)) byId(name).hidden = name !== chosen;
  document.body.classList.toggle("completing", chosen === "completion");
  const before = chooser.value;
  const able = models.filter(({ routes: own }) => own.includes(routes[chosen]));
  chooser.replaceChildren(...able.map(({ id }) => element("option", { value: id, textContent: id })));
  if (able.some(({ id }) => id === before)) chooser.value = before;
  fail(models.length > 0 && able.length === 0 ? lacks[chosen] : "");
}

async function loadModels(): Promise<void> {
  try {
    models = await listModels();
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) askForKey();
    else fail((error as Error).message);
    return;
  }
  const can = (mode: Mode): boolean => models.some(({ routes: own }) => own.includes(routes[mode]));
  if (!can(mode()) && can("completion"))
    document.querySelector<HTMLInputElement>("input[name=mode][value=completion]")!.checked = true;
  showMode();
}

function fail(message: string): void {
  failure.textContent = message;
  failure.hidden = message === "";
}

function showSettings(shown: boolean): void {
  settings.classList.toggle("shown", shown);
  toggle.ariaExpanded = String(shown);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  // What lies on top goes first.
  if (hide()) return;
  if (isRunning()) void stop();
  else showSettings(false);
});
for (const button of document.querySelectorAll<HTMLButtonElement>("button.stop")) button.onclick = () => void stop();
for (const input of document.querySelectorAll("input[name=mode]"))
  input.addEventListener("change", () => void stop().then(showMode));
toggle.onclick = () => showSettings(toggle.ariaExpanded !== "true");

keepTheme(themeStore);
keepSettings();
showAlternatives();
startChat(() => chooser.value);
startCompletion(() => chooser.value);
whenKeyIsGiven(() => void loadModels());
void loadModels();
