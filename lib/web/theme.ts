// Light and dark: the page follows the system's choice until the reader presses the button.

/** Shows the theme that was kept, or the system's, and lets a button change it. `keep` gets the reader's choice. */
export function startTheme(
  button: HTMLButtonElement,
  kept: string | undefined,
  keep: (theme: string) => void = () => undefined,
): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = kept;
  const show = (): void => {
    const shown = theme ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = shown;
    button.textContent = shown === "dark" ? "Light" : "Dark";
    button.title = `Switch to ${shown === "dark" ? "light" : "dark"}`;
    document.dispatchEvent(new Event("themechange"));
  };
  button.onclick = () => {
    theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    keep(theme);
    show();
  };
  dark.addEventListener("change", show);
  show();
}
