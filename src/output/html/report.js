"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const [tools, search, kind, found, table] = ["tools", "search", "kind", "found", "samples"].map(at);
  if (!tools || !table) return;
  const lines = [...table.tBodies[0].rows];
  const texts = lines.map((line) => line.textContent.toLowerCase());
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    let count = 0;
    lines.forEach((line, number) => {
      const kinds = line.dataset.kinds.split(" ");
      const fits = (!kind.value || kinds.includes(kind.value)) && words.every((word) => texts[number].includes(word));
      line.hidden = !fits;
      if (fits) count += 1;
    });
    found.textContent = count + " of " + lines.length;
  };
  search.addEventListener("input", show);
  kind.addEventListener("change", show);
  tools.hidden = false;
  show();
})();
