// Every picture, loaded, with its alternative text.
async () => {
  const images = [...document.querySelectorAll("article img, article svg[role=img]")];
  for (const i of images) {
    i.loading = "eager";
    await i.decode?.().catch(() => 0);
  }
  return images.map(i => ({ src: i.getAttribute("src") || "svg", alt: i.getAttribute("alt")
    ?? i.getAttribute("aria-label"), there: i.tagName !== "IMG" || i.naturalWidth > 0 }));
}
