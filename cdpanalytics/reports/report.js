enliven(document);
awaken(document, false);
answering(document.querySelector("main"), null);
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  // A head with buttons in it is not repeated on each page.
  for (const button of document.querySelectorAll("th button.sort")) button.replaceWith(...button.childNodes);
});
window.addEventListener("afterprint", () => enliven(document));
// A link to what is folded opens it.
function unfold() {
  const part = location.hash && document.querySelector(`details:has(${location.hash})`);
  if (!part) return;
  part.open = true;
  part.scrollIntoView();
}
window.addEventListener("hashchange", unfold);
unfold();
