// Shows HTML whose links open a page of this app without a reload. `data.html` is escaped on the
// server. A plain click on anything with data-open tells Python; with a modifier the browser's own
// way with links holds (a new tab).
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("[data-links]");
  if (root.shown !== data.html) {
    const focused = root.contains(document.activeElement)
      ? document.activeElement.getAttribute("href")
      : null;
    root.innerHTML = data.html;
    root.shown = data.html;
    const again = [...root.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused);
    if (focused && again) again.focus({ preventScroll: true });
  }
  root.onclick = (event) => {
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    const opened = event.target.closest("[data-open]");
    if (!plain || !opened || String(getSelection())) return;
    event.preventDefault();
    setTriggerValue("opened", opened.dataset.open);
  };
}
