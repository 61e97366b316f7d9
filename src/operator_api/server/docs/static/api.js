// Scalar, with everything that it would fetch from elsewhere switched off.
const place = document.getElementById("api");
Scalar.createApiReference(place, {
  url: place.dataset.document,
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  hideDarkModeToggle: true,
  showDeveloperTools: "never",
  mcp: { disabled: true },
  agent: { disabled: true },
  proxyUrl: "",
  theme: "default",
  layout: "modern",
  forceDarkModeState: isDark() ? "dark" : "light",
});

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

document.addEventListener("themechange", () => location.reload());
