// What axe-core, loaded before, finds that is serious, by every rule that can find such a thing and
// by the experimental one on labels.
//
// The rules on contrast are slow: they paint the page once more, box by box. Thousands of letters
// in formulas and code look alike, so these rules are asked about one text of each look, which is
// the colours, sizes and effects of the text and of all that it lies in; meanwhile, the parts
// of the article with nothing to ask about are taken out.
async () => {
  const none = { backgroundColor: "rgba(0, 0, 0, 0)", backgroundImage: "none", opacity: "1",
    filter: "none", mixBlendMode: "normal", position: "static", zIndex: "auto", float: "none" };
  const looks = new Map([[null, ""]]);
  const ground = element => {
    if (!looks.has(element)) {
      const style = getComputedStyle(element);
      const own = Object.keys(none).filter(name => style[name] !== none[name])
        .map(name => `${name} ${style[name]}`).join();
      looks.set(element, ground(element.parentElement) + (own && `/${own}`));
    }
    return looks.get(element);
  };
  const seen = new Set();
  const marked = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!text && !element.matches("input, select, textarea")) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
    const place = element.closest("p, li, td, dt, pre, .katex") ? "" : element.className;
    const look = [element.matches("a, button, summary"), place, color, fontSize, fontWeight,
      textShadow, ground(element)].join();
    if (seen.has(look)) continue;
    seen.add(look);
    element.dataset.look = "";
    marked.push(element);
  }

  const serious = ["serious", "critical"];
  const run = async options => (await axe.run(document, {
    resultTypes: ["violations"], preload: false, selectors: false, ...options })).violations
    .filter(v => serious.includes(v.impact))
    .map(v => `axe ${v.id}: ${v.nodes.length} x ${v.nodes[0].html.slice(0, 140)}`);
  const painting = ["color-contrast", "link-in-text-block"];
  const scrolling = ["scrollable-region-focusable"];
  axe.configure({ rules: [{ id: painting[0], selector: "[data-look]" }] });
  const rules = { "label-content-name-mismatch": { enabled: true } };
  for (const rule of axe._audit.rules) {
    const never = rule.impact && !serious.includes(rule.impact);
    if (never || [...painting, ...scrolling].includes(rule.id)) rules[rule.id] = { enabled: false };
  }
  const found = await run({ runOnly: scrolling });

  // Formulas and code are thousands of bare spans, about which the other rules have nothing to ask.
  const bare = element => [...element.attributes].every(({ name }) => /^(class|style|id)$/.test(name));
  const emptied = [];
  for (const box of document.querySelectorAll("article :is(.katex-html, pre)")) {
    if (![...box.querySelectorAll("*")].every(bare)) continue;
    emptied.push([box, [...box.childNodes]]);
    box.textContent = box.textContent;
  }
  found.push(...await run({ rules }));
  for (const [box, children] of emptied) box.replaceChildren(...children);

  const asked = "[data-look], a, img, svg, input";
  const away = [];
  for (const element of document.querySelectorAll(`article *:not(${asked}):not(:has(${asked}))`)) {
    if (!element.isConnected) continue; // its parent is away
    const place = document.createComment("");
    element.replaceWith(place);
    away.push([place, element]);
  }
  found.push(...await run({ runOnly: painting }));
  for (const [place, element] of away) place.replaceWith(element);
  for (const element of marked) delete element.dataset.look;
  return found;
}
