// Take Airflow's light or dark theme; then filter, sort, and refresh every 30 seconds.
"use strict";

try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "system";
} catch { /* no storage: use the system's theme */ }

document.addEventListener("DOMContentLoaded", () => {
  const filter = document.querySelector("input"), table = document.querySelector("table");
  if (!table) return;

  function arrange() {
    const words = filter.value.toLowerCase().split(/\s+/);
    const column = table.querySelector("[aria-sort]"), sign = column.ariaSort === "ascending" ? 1 : -1;
    const order = (row) => row.cells[column.cellIndex].dataset.order;
    const name = (row) => row.cells[0].textContent;
    for (const body of table.tBodies) {
      const rows = [...body.querySelectorAll(".integration")];
      rows.sort((a, b) => sign * (order(a) - order(b) || name(a).localeCompare(name(b))));
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      body.append(...rows);
      body.hidden = rows.length > 0 && rows.every((row) => row.hidden);
    }
    document.querySelector(".empty").hidden = [...table.tBodies].some((body) => !body.hidden);
  }

  function show(fresh) {
    const link = document.activeElement.closest("td a")?.getAttribute("href");
    table.replaceChildren(table.tHead, ...fresh.tBodies);
    arrange();
    if (link) table.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus();
  }

  async function refresh() {
    let problem = "";
    try {
      const answer = await fetch(location.href);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("table");
      if (fresh) show(fresh);
      else problem = `Airflow answers with HTTP ${answer.status}: reload this page.`;
    } catch {
      problem = "Airflow does not answer.";
    }
    document.getElementById("problem").textContent = problem;
  }

  filter.value = new URLSearchParams(location.search).get("q") ?? "";
  filter.addEventListener("input", () => {
    history.replaceState(null, "", filter.value ? `?q=${encodeURIComponent(filter.value)}` : location.pathname);
    arrange();
  });
  table.tHead.addEventListener("click", (event) => {
    const column = event.target.closest("th"), next = column.ariaSort === "ascending" ? "descending" : "ascending";
    table.querySelector("[aria-sort]").ariaSort = null;
    column.ariaSort = next;
    arrange();
  });
  arrange();
  // Not while text is selected, and not while the tab is hidden.
  setInterval(() => document.hidden || !getSelection().isCollapsed || refresh(), 30000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
});
