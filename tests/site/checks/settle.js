// Wait until the page is drawn as it will stay: fonts, scripts that wait for a frame, transitions.
async () => {
  const frame = () => new Promise(requestAnimationFrame);
  await document.fonts.ready;
  await frame();
  await frame();
  for (const animation of document.getAnimations()) animation.cancel();
  await frame();
}
