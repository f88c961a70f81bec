// What pages need of a script, and no more. Everything can be read without it.
(() => {
  // A box that scrolls must be reachable by keyboard.
  const reach = () => {
    for (const box of document.querySelectorAll(
      ".equation, .pst-scrollable-table-container, .cell_output .output, dt.sig, pre")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  // A link into a folded solution opens it.
  const unfold = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    let at = id && document.getElementById(id);
    if (!at) return;
    const target = at;
    let opened = false;
    for (; at; at = at.parentElement) {
      if (at.tagName === "DETAILS" && !at.open) opened = at.open = true;
    }
    if (opened) target.scrollIntoView();
  };
  // The part being read is marked in "On this page".
  const follow = () => {
    const links = new Map();
    for (const link of document.querySelectorAll(".bd-toc-nav a[href^='#']")) {
      const part = document.getElementById(decodeURIComponent(link.hash.slice(1)));
      if (part) links.set(part, link);
    }
    if (!links.size) return;
    const mark = () => {
      let current = null;
      for (const [part, link] of links) {
        link.classList.remove("active");
        link.removeAttribute("aria-current");
        if (part.getBoundingClientRect().top < innerHeight * 0.3) current = link;
      }
      current?.classList.add("active");
      current?.setAttribute("aria-current", "true");
    };
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    }, { passive: true });
    mark();
  };
  const start = () => { reach(); unfold(); follow(); };
  addEventListener("resize", reach);
  addEventListener("hashchange", unfold);
  document.addEventListener("toggle", reach, true);
  if (document.readyState === "complete") start(); else addEventListener("load", start);
})();
