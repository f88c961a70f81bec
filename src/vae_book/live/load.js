// Puts each live figure of a page in the place of its picture, when it comes near the window.
(() => {
  "use strict";
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const loaded = new Map();
  const load = file => {
    if (!loaded.has(file)) {
      loaded.set(file, new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = here + file;
        script.onload = done;
        script.onerror = () => failed(new Error(`${file} could not be loaded`));
        document.head.append(script);
      }));
    }
    return loaded.get(file);
  };
  const show = async box => {
    const { figure, name, needs } = box.dataset;
    try {
      await load("parts.js");
      for (const part of needs?.split(" ") ?? []) await load(`${part}.js`);
      await Promise.all([load(`${figure}.js`), name && load(`data/${name}.js`)]);
      vaeLive.figures[figure](box.firstElementChild, vaeLive.data[name] ?? {});
      box.classList.add("ready");
    } catch (error) {
      box.classList.add("failed"); // the style sheet shows the picture
      console.error(error);
    }
  };
  const near = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      show(target);
    }
  }, { rootMargin: "100% 0px" });
  for (const box of document.querySelectorAll(".live[data-figure]")) near.observe(box);
})();
