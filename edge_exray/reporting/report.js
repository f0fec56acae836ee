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

async function loadPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}

function draw(chart) {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const at = new Map(data.layers.map((layer, position) => [layer, position]));
  const symbols = { preprocessing: "diamond", conversion: "square", quantization: "circle", kernel: "triangle-up" };
  const hovertemplate = "%{text}<extra></extra>";
  const traces = Object.entries(data.legs).map(([leg, nrmse]) => ({
    name: leg, x: data.layers, y: nrmse, text: data.hover, hovertemplate, mode: "lines+markers",
    line: { color: colour(leg), width: 1.5 }, marker: { color: colour(leg), size: 5, symbol: symbols[leg] },
  }));
  const marked = data.suspects.filter(({ layer }) => at.has(layer));
  if (marked.length) {
    traces.push({
      name: "suspect", x: marked.map(({ layer }) => layer), y: marked.map(({ layer, leg }) => data.legs[leg]?.[at.get(layer)] ?? null),
      text: marked.map(({ layer }) => data.hover[at.get(layer)]), hovertemplate, mode: "markers",
      marker: { color: "#d9453b", size: 13, symbol: "circle-open", line: { width: 2 } },
    });
  }
  // A floor for the axis: rounding noise shall not look like an error.
  const top = 1.05 * Math.max(0.01, ...Object.values(data.legs).flat());
  const scale = (log) => (log ? { "yaxis.type": "log", "yaxis.autorange": true } : { "yaxis.type": "linear", "yaxis.range": [0, top] });
  const grid = "rgba(128,136,144,.22)";
  Plotly.newPlot(chart, traces, {
    margin: { l: 56, r: 8, t: 8, b: 48 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { size: 12, color: "#707a84", family: getComputedStyle(document.body).fontFamily }, hovermode: "closest", hoverdistance: 30, dragmode: "zoom",
    hoverlabel: { align: "left", bgcolor: "#20262c", bordercolor: "#20262c", font: { color: "#f2f4f6", size: 12 } },
    showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: { title: { text: "layer" }, gridcolor: grid, zeroline: false, range: [data.layers[0] - 0.5, data.layers.at(-1) + 0.5] },
    yaxis: { title: { text: "nRMSE" }, gridcolor: grid, zeroline: false, range: [0, top], exponentformat: "power", automargin: true },
    shapes: marked.map(({ layer }) => ({
      type: "line", x0: layer, x1: layer, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: "#d9453b", width: 1, dash: "dot" },
    })),
  }, { responsive: true, displaylogo: false, displayModeBar: false });
  chart.on("plotly_click", ({ points }) => { location.hash = `layer-${points[0].x}`; });
  document.getElementById("log-scale").addEventListener("change", (event) =>
    Plotly.relayout(chart, scale(event.target.checked)));
  addEventListener("beforeprint", () => Plotly.relayout(chart, { width: 680 }));
  addEventListener("afterprint", () => Plotly.relayout(chart, { width: null, autosize: true }));
}

const chart = document.getElementById("chart");
if (chart && "DecompressionStream" in window) {
  loadPlotly().then(() => { chart.classList.add("drawn"); draw(chart); });
}
