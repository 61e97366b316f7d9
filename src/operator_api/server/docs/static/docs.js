// What the pages do beyond being read: the theme, copying, and suggestions while one types.

// --- theme

const root = document.documentElement;
const themeSwitch = document.querySelector("[data-theme-switch]");
themeSwitch.hidden = false;
themeSwitch.addEventListener("click", () => {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // It holds for this page, then.
  }
  document.dispatchEvent(new Event("themechange"));
});

// --- copy

for (const block of document.querySelectorAll(".code")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    button.textContent = (await copy(textToCopy(block))) ? "Copied" : "Select and copy by hand";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.append(button);
}

// Of a session only what is typed.
function textToCopy(block) {
  const text = block.querySelector("code").textContent.trimEnd();
  if (block.dataset.language !== "console") {
    return text;
  }
  const typed = [];
  let goesOn = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("$ ") || goesOn) {
      typed.push(goesOn ? line : line.slice(2));
      goesOn = line.endsWith("\\");
    }
  }
  return typed.join("\n");
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain http to another host, browsers have no clipboard: the old way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// --- search

const form = document.querySelector("[data-search]");
const input = form.querySelector("input");
const found = form.querySelector(".found");
let waiting = 0;
let asked = 0;

input.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(suggest, 120);
});

async function suggest() {
  const query = input.value.trim();
  const number = ++asked;
  if (query.length < 2) {
    found.hidden = true;
    return;
  }
  const url = `${form.action}?q=${encodeURIComponent(query)}`;
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  const hits = answer.ok ? (await answer.json()).data.slice(0, 8) : [];
  if (number !== asked) {
    return;
  }
  found.replaceChildren(...hits.map(line));
  if (!hits.length) {
    const nothing = document.createElement("p");
    nothing.textContent = "Nothing found.";
    found.append(nothing);
  }
  found.hidden = false;
}

function line(hit) {
  const link = document.createElement("a");
  link.href = hit.url;
  const title = document.createElement("strong");
  title.textContent = hit.heading === hit.title ? hit.title : `${hit.title} › ${hit.heading}`;
  const excerpt = document.createElement("span");
  excerpt.textContent = hit.excerpt;
  link.append(title, excerpt);
  return link;
}

form.addEventListener("keydown", (event) => {
  const links = [...found.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (event.key === "Escape" && !found.hidden) {
    found.hidden = true;
    input.focus();
    event.preventDefault(); // which would empty the field
  } else if (event.key === "ArrowDown" && links.length && !found.hidden) {
    links[Math.min(at + 1, links.length - 1)].focus();
    event.preventDefault();
  } else if (event.key === "ArrowUp" && at >= 0) {
    (links[at - 1] ?? input).focus();
    event.preventDefault();
  }
});
document.addEventListener("click", (event) => {
  if (!form.contains(event.target)) {
    found.hidden = true;
  }
});
document.addEventListener("keydown", (event) => {
  const writing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey) {
    input.focus();
    event.preventDefault();
  }
});
