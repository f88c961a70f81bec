// What KaTeX refused, or what nobody has set.
() => ({
  red: [...document.querySelectorAll(
    ".katex-error, mjx-merror, .merror, .katex [style*='color:#cc0000']")]
    .map(e => e.textContent.slice(0, 80)),
  unset: [...document.querySelectorAll(".math:not(.katex *)")].map(e => e.textContent),
})
