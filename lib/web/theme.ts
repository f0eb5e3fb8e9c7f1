// Light and dark: a page follows the system until the reader presses the button.
import { byId } from "./dom.js";

/** Place that keeps the reader's choice for the next visit. */
export interface ThemeStore {
  read(): string | undefined;
  write(theme: string): void;
}

/** Makes the button with the id "theme" switch between light and dark. */
export function keepTheme(store: ThemeStore): void {
  const button = byId("theme", HTMLButtonElement);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = store.read();
  const show = (): void => {
    const shown = theme ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = shown;
    button.textContent = shown === "dark" ? "Light" : "Dark";
    button.title = `Switch to ${shown === "dark" ? "light" : "dark"}`;
  };
  button.onclick = () => {
    theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    store.write(theme);
    show();
  };
  dark.addEventListener("change", show);
  show();
}
