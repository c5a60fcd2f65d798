enliven(document);
awaken(document, false);
answering(document.querySelector("main"), null);
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
// A link to what is folded opens it.
function unfold() {
  const part = location.hash && document.querySelector(`details:has(${location.hash})`);
  if (!part) return;
  part.open = true;
  part.scrollIntoView();
}
window.addEventListener("hashchange", unfold);
unfold();
