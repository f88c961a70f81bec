// Every picture's filter.
() => [...document.querySelectorAll("article img")].map(i => [
  i.getAttribute("src"), i.classList.contains("keep-colours"),
  getComputedStyle(i).filter, document.documentElement.dataset.theme])
