// Equations of which an end can't be seen, even after scrolling.
() => {
  const problems = [];
  // Folded parts are opened: what is in them must be readable too.
  for (const d of document.querySelectorAll("article details")) d.open = true;
  const ink = (root, keep) => {
    const rects = [];
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
      if (!node.data.replace(/[\s\u200b]/g, "") || !keep(node.parentElement)) continue;
      const range = document.createRange();
      range.selectNode(node);
      rects.push(...[...range.getClientRects()].filter(r => r.width));
    }
    return rects;
  };
  const extent = rects => [
    Math.min(...rects.map(r => r.left)), Math.max(...rects.map(r => r.right)) ];
  const box = element => {
    for (let e = element.parentElement; e && e !== document.body; e = e.parentElement)
      if (getComputedStyle(e).overflowX !== "visible") return e;
    return null;
  };
  for (const html of document.querySelectorAll("article .katex-html")) {
    const name = (html.parentElement.querySelector("annotation")?.textContent || "?")
      .slice(0, 60);
    const all = ink(html, () => true);
    if (!all.length) { problems.push(`equation without ink: ${name}`); continue; }
    const holder = box(html);
    const frame = () => {
      if (!holder) return [0, innerWidth];
      const r = holder.getBoundingClientRect();
      return [r.left + holder.clientLeft, r.left + holder.clientLeft + holder.clientWidth];
    };
    if (holder) holder.scrollLeft = 0;
    let [left] = extent(ink(html, () => true));
    if (left < Math.max(frame()[0], 0) - 1)
      problems.push(`left end cut off by ${Math.round(frame()[0] - left)} px: ${name}`);
    const over = holder && getComputedStyle(holder).overflowX;
    const scrolls = ["auto", "scroll"].includes(over);
    if (scrolls) holder.scrollLeft = 1e6;
    let [, right] = extent(ink(html, () => true));
    if (right > Math.min(frame()[1], innerWidth) + 1)
      problems.push(`right end cut off by ${Math.round(right - frame()[1])} px: ${name}`);
    if (holder) {
      const r = holder.getBoundingClientRect();
      const inner = html.getBoundingClientRect();
      if (inner.top < r.top - 1 || inner.bottom > r.bottom + 1)
        problems.push(`top or bottom cut off: ${name}`);
    }
    const inTag = e => !!e.closest(".tag");
    const numbers = ink(html, inTag), formula = ink(html, e => !inTag(e));
    for (const n of numbers)
      if (formula.some(f => f.left < n.right - 1 && f.right > n.left + 1
          && f.top < n.bottom - 1 && f.bottom > n.top + 1)) {
        problems.push(`number on top of the formula: ${name}`);
        break;
      }
    if (scrolls) holder.scrollLeft = 0;
  }
  return problems;
}
