"use strict";

// Sorting: header cells become buttons; a cell's data-v is its figure, its text the fallback.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const unknown = (v) => v === "" || v === "–";
      body.append(...[...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (unknown(x) || unknown(y)) return unknown(x) - unknown(y);
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return descending ? -order : order;
      }));
    });
  });
}

// The plots are one slider over the layers: what it points at is shown below it.
function explore(chart) {
  const { layers, texts } = JSON.parse(document.getElementById("chart-data").textContent);
  const [cursor, hint] = ["cursor", "hint"].map((name) => chart.appendChild(Object.assign(document.createElement("div"), { className: name, ariaHidden: true })));
  const share = (position) => (position + 0.5) / layers.length;
  let selected = -1;

  function select(position) {
    document.querySelectorAll(".layer.shown, tr.shown").forEach((old) => old.classList.remove("shown"));
    selected = position;
    for (const kind of ["layer", "row"]) document.getElementById(`${kind}-${layers[position]}`).classList.add("shown");
    cursor.style.setProperty("--at", share(position));
    chart.setAttribute("aria-valuenow", layers[position]);
    chart.setAttribute("aria-valuetext", texts[position]);
  }

  function point(position) {
    hint.hidden = position < 0;
    if (position < 0) return;
    hint.textContent = texts[position];
    hint.style.setProperty("--at", share(position));
    hint.classList.toggle("left", share(position) > 0.5);
  }

  function choose(position) {
    select(Math.min(Math.max(position, 0), layers.length - 1));
    history.replaceState(null, "", `#layer-${layers[selected]}`);
  }

  function follow() {
    const position = layers.findIndex((layer) => location.hash === `#layer-${layer}`);
    if (position < 0) return false;
    select(position);
    const details = document.getElementById(`layer-${layers[position]}`);
    details.scrollIntoView();
    details.focus({ preventScroll: true });
    return true;
  }

  const under = (event) => {
    const box = chart.getBoundingClientRect();
    return Math.min(Math.max(Math.floor(((event.clientX - box.left) / box.width) * layers.length), 0), layers.length - 1);
  };
  chart.addEventListener("pointermove", (event) => point(under(event)));
  chart.addEventListener("pointerleave", () => point(-1));
  chart.addEventListener("click", (event) => choose(under(event)));
  chart.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -layers.length, End: layers.length };
    if (event.key in steps) choose(selected + steps[event.key]);
    else if (event.key === "Enter") follow();
    else return;
    event.preventDefault();
  });
  document.querySelector("#layers-table tbody").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!event.target.closest("a") && !String(getSelection())) location.hash = row.id.replace("row", "layer");
  });
  addEventListener("hashchange", follow);

  for (const [name, value] of Object.entries({ role: "slider", tabindex: 0, "aria-label": "Layer", "aria-valuemin": layers[0], "aria-valuemax": layers.at(-1) })) {
    chart.setAttribute(name, value);
  }
  document.documentElement.classList.add("scripted");
  point(-1);
  if (!follow()) select(layers.indexOf(Number(chart.dataset.first)));
}

const chart = document.getElementById("chart");
if (chart) explore(chart);
