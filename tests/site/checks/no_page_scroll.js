// What makes the page scroll sideways, and what is cut off so that it doesn't.
() => {
  const problems = [];
  for (const d of document.querySelectorAll("article details")) d.open = true;
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth + 1) {
    const wide = [...document.querySelectorAll("main *")].find(e => {
      const r = e.getBoundingClientRect();
      return r.right > innerWidth + 1 && r.left >= 0
        && getComputedStyle(e).visibility !== "hidden";
    });
    problems.push(`page scrolls sideways: ${root.scrollWidth} px wide in ${innerWidth} px `
      + `(${wide?.tagName}: ${wide?.textContent.trim().slice(0, 50)})`);
  }
  for (const e of document.querySelectorAll("article, article *")) {
    if (e.closest(".katex") || !e.textContent.trim()) continue;
    const hides = ["hidden", "clip"].includes(getComputedStyle(e).overflowX);
    if (hides && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)
      problems.push(`cut off: ${e.tagName} ${e.textContent.trim().slice(0, 50)}`);
  }
  return problems;
}
