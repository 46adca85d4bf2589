// Dark, light and red; kept from one visit to the next where the browser allows it.

const THEMES = ["dark", "light", "red"];

export function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "dark";
  try {
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  } catch {
    // Private windows may forbid it; the theme then lasts as long as the page.
  }
}

function storedTheme() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

setTheme(storedTheme() ?? new URLSearchParams(location.search).get("theme"));
