// Displayed equations that don't show whole.
() => innerWidth < 390 ? [] :
  [...document.querySelectorAll("article .katex-display")]
    .filter(e => e.scrollWidth > e.clientWidth + 4)
    .map(e => `${e.scrollWidth - e.clientWidth} px too wide: `
      + (e.querySelector("annotation")?.textContent || "?").slice(0, 60))
