// Draws the formulas that Sphinx leaves in a page as TeX, without a network.
(() => {
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = here + "katex.min.css";
  document.head.append(style);

  const draw = (node) => {
    const display = node.tagName === "DIV";
    for (const text of [...node.childNodes]) {
      const tex = text.nodeType === Node.TEXT_NODE ? text.textContent.trim() : "";
      if (!tex) continue;
      const place = document.createElement("span");
      const bare = tex.replace(/^\\[[(]|\\[\])]$/g, "");
      katex.render(bare, place, { displayMode: display, throwOnError: false });
      text.replaceWith(place);
    }
  };
  const script = document.createElement("script");
  script.src = here + "katex.min.js";
  script.onload = () => document.querySelectorAll(".math").forEach(draw);
  document.head.append(script);
})();
