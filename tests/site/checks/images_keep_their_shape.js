// Pictures that are stretched.
() => [...document.querySelectorAll("article img")]
  .filter(i => i.naturalHeight && i.clientHeight && Math.abs(Math.log(
    i.clientWidth / i.clientHeight * i.naturalHeight / i.naturalWidth)) > 0.05)
  .map(i => `stretched: ${i.getAttribute("src")} ${i.naturalWidth} x ${i.naturalHeight} `
    + `shown as ${i.clientWidth} x ${i.clientHeight}`)
