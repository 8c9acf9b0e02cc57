// Airflow's own choice of light or dark; then a new page every 30 seconds, or while one types. The page works without.
"use strict";

try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "system";
} catch { /* no storage: as the system says */ }

document.addEventListener("DOMContentLoaded", () => {
  const filter = document.querySelector("[name=q]");
  let shownAt = Date.now(), asked = 0, typing;

  function tell(problem = "") {
    const place = document.getElementById("age");
    if (!place) return;
    if (problem) place.dataset.problem = problem;
    const seconds = Math.round((Date.now() - shownAt) / 1000) + Number(place.dataset.age);
    const age = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
    const asked = place.dataset.age ? [`FloKit asked ${age} ago`] : [];
    place.textContent = [...asked, ...(place.dataset.problem ? [place.dataset.problem] : [])].join(". ");
  }

  async function refresh() {
    const mine = ++asked;
    try {
      const answer = await fetch(location.href.split("#")[0]);
      if (answer.status === 401) return tell("You are logged out: reload this page.");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("page");
      if (mine !== asked) return;
      if (!page) return tell(`Airflow answers with HTTP ${answer.status}.`);
      const link = document.activeElement.closest("main a")?.getAttribute("href");
      document.getElementById("page").replaceWith(page);
      if (link) page.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus();
      shownAt = Date.now();
      mark();
    } catch {
      if (mine === asked) tell("Airflow does not answer.");
    }
  }

  // As :target, which does not outlive the first refresh.
  function mark() {
    document.getElementById(location.hash.slice(1))?.classList.add("target");
  }

  filter?.form.addEventListener("submit", (event) => event.preventDefault());
  filter?.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      const url = new URL(location.href);
      url.searchParams.set("q", filter.value);
      history.replaceState(null, "", url);
      refresh();
    }, 150);
  });
  // A column's title keeps what was typed, also if it is clicked before that has come back.
  document.addEventListener("click", (event) => {
    const title = event.target.closest("thead a");
    if (title) {
      const url = new URL(title.href);
      url.searchParams.set("q", filter.value);
      title.href = url;
    }
  });
  if (filter) {
    setInterval(tell, 1000);
    // Not while somebody marks a message to copy it, nor behind other tabs.
    setInterval(() => document.hidden || !getSelection().isCollapsed || refresh(), 30000);
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
  }
  mark();
});
