// The page's text without mathematics that is set and without code.
() => {
  const copy = document.body.cloneNode(true);
  const drop = "script, style, template, pre, code, .katex, .katex-error, kbd";
  for (const e of copy.querySelectorAll(drop)) e.remove();
  return document.title + "\n" + copy.textContent;
}
