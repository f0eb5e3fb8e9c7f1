// The page of `heed inspect`: shows what a model computed for one text. The data are inside of the page.
import { byId, element } from "../../web/dom.js";
import { keepTheme } from "../../web/theme.js";
import type { PageData } from "../page/data.js";
import { attentionView } from "./attention.js";
import { readData } from "./data.js";
import { effectsView } from "./effects.js";
import { lensView } from "./lens.js";
import { neuronsView } from "./neurons.js";
import { refresh, select } from "./selection.js";
import { showTokens, uncolourTokens } from "./tokens.js";

const storageName = "heed-inspect-theme";

/** Returns the views that a page has, by their names. Each is made when it is shown for the first time. */
function viewsOf(page: PageData): [string, () => HTMLElement][] {
  const { lens, attribution, ablation, neurons } = page;
  return [
    ["Attention", () => attentionView(page)],
    ...(lens ? [["Logit lens", () => lensView(lens, page)] as [string, () => HTMLElement]] : []),
    ...(attribution ? [["Attribution", () => effectsView(attribution, page)] as [string, () => HTMLElement]] : []),
    ...(ablation ? [["Ablations", () => effectsView(ablation, page)] as [string, () => HTMLElement]] : []),
    ...(neurons.length > 0 ? [["Neurons", () => neuronsView(page)] as [string, () => HTMLElement]] : []),
  ];
}

function showViews(page: PageData): void {
  const views = viewsOf(page);
  const panels = views.map(([name], i) => {
    const panel = element("div", { id: `panel-${i}`, hidden: i > 0 });
    panel.role = "tabpanel";
    panel.ariaLabel = name;
    return panel;
  });
  const tabs = views.map(([name], i) => {
    const tab = element("button", { type: "button", textContent: name, onclick: () => open(i) });
    tab.role = "tab";
    tab.setAttribute("aria-controls", `panel-${i}`);
    return tab;
  });
  const open = (chosen: number): void => {
    for (const [i, panel] of panels.entries()) {
      panel.hidden = i !== chosen;
      tabs[i]!.ariaSelected = String(i === chosen);
      tabs[i]!.tabIndex = i === chosen ? 0 : -1;
    }
    uncolourTokens();
    if (panels[chosen]!.childElementCount === 0) panels[chosen]!.append(views[chosen]![1]());
    refresh();
  };
  byId("tabs").replaceChildren(...tabs);
  byId("tabs").addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (step === undefined) return;
    const from = tabs.findIndex((tab) => tab.ariaSelected === "true");
    const to = (from + step + tabs.length) % tabs.length;
    open(to);
    tabs[to]!.focus();
  });
  byId("panels").replaceChildren(...panels);
  open(0);
}

function show(page: PageData): void {
  document.title = `${page.title} – heed inspect`;
  byId("title").textContent = page.title;
  byId("facts").replaceChildren(
    ...page.facts.map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })),
    ),
  );
  showTokens(page.sequences);
  showViews(page);
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") select(null);
  });
}

keepTheme({
  read() {
    try {
      return localStorage.getItem(storageName) ?? undefined;
    } catch {
      return undefined;
    }
  },
  write(theme) {
    try {
      localStorage.setItem(storageName, theme);
    } catch {
      // A browser that keeps nothing still has the choice for this visit.
    }
  },
});
const page = readData();
if (page) show(page);
else byId("tokens-hint").textContent = "This page has no data. `heed inspect` makes pages with data.";
