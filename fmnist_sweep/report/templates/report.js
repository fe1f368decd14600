"use strict";
// Draws the charts that lie in the page as JSON, fits them to paper, and lets trials be picked out and tables sorted.
(function () {
  var PAPER = 690; // CSS pixels between the margins of an A4 page
  var config = {
    displaylogo: false, displayModeBar: "hover", responsive: false, showLink: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]
  };
  var charts = Array.prototype.slice.call(document.querySelectorAll(".chart"));

  function draw(chart) {
    if (chart.dataset.drawn || !window.Plotly) return;
    chart.dataset.drawn = "yes";
    var figure = JSON.parse(document.getElementById(chart.dataset.figure).textContent);
    figure.layout.width = chart.clientWidth;
    Plotly.newPlot(chart, figure.data, figure.layout, config);
    if (figure.layout.meta && figure.layout.meta.rows) pickable(chart, figure.layout.meta);
  }

  // One after the other, so that the words can be read meanwhile.
  function drawNext(place) {
    if (place >= charts.length) {
      document.documentElement.dataset.drawn = Math.round(performance.now());
      return;
    }
    draw(charts[place]);
    setTimeout(drawNext, 0, place + 1);
  }

  // The library is packed: a page is less than half as large, and opening it takes hardly longer.
  var packed = atob(document.getElementById("library").textContent);
  var bytes = new Uint8Array(packed.length);
  for (var place = 0; place < packed.length; place += 1) bytes[place] = packed.charCodeAt(place);
  new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text().then(function (text) {
    var library = document.createElement("script");
    library.textContent = text;
    document.head.appendChild(library);
    drawNext(0);
  });

  function fit(width) {
    if (!window.Plotly) return;
    charts.forEach(function (chart) {
      draw(chart);
      Plotly.relayout(chart, { width: width || chart.clientWidth });
    });
  }
  window.addEventListener("beforeprint", function () {
    if (!window.Plotly) return;
    charts.forEach(function (chart) { draw(chart); });
    charts.forEach(function (chart) { Plotly.relayout(chart, { width: Math.min(PAPER, chart.clientWidth) }); });
  });
  window.addEventListener("afterprint", function () { fit(); });
  var waiting;
  window.addEventListener("resize", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () { if (!window.matchMedia("print").matches) fit(); }, 150);
  });

  // Parallel coordinates: a trial pointed at lights up; boxes over axes keep the trials that pass through all of them.
  function pickable(chart, meta) {
    var boxes = {};
    var faded = chart.data.map(function (_, place) { return place; }).filter(function (place) {
      return place < meta.picked;
    });
    function show(trace, rows) {
      var x = [], y = [];
      rows.forEach(function (row) {
        row.forEach(function (height, axis) { x.push(axis); y.push(height); });
        x.push(null); y.push(null);
      });
      return Plotly.restyle(chart, { x: [x], y: [y] }, [trace]);
    }
    function passes(row) {
      return Object.keys(boxes).every(function (axis) {
        var height = row[axis];
        return height !== null && height >= boxes[axis][0] && height <= boxes[axis][1];
      });
    }
    function pick() {
      var any = Object.keys(boxes).length > 0;
      Plotly.restyle(chart, { opacity: any ? 0.15 : 1 }, faded);
      var kept = any ? meta.rows.filter(passes) : [];
      show(meta.picked, kept);
      var words = chart.parentNode.querySelector(".picked");
      if (words) words.textContent = any ? kept.length + " of " + meta.rows.length + " trials pass through." : "";
    }
    chart.on("plotly_hover", function (event) { show(meta.pointed, [meta.rows[event.points[0].customdata]]); });
    chart.on("plotly_unhover", function () { show(meta.pointed, []); });
    chart.on("plotly_selected", function (event) {
      if (!event || !event.range) return;
      var x = event.range.x, y = event.range.y;
      for (var axis = Math.ceil(Math.min(x[0], x[1])); axis <= Math.max(x[0], x[1]); axis++) {
        boxes[axis] = [Math.min(y[0], y[1]), Math.max(y[0], y[1])];
      }
      pick();
    });
    chart.on("plotly_deselect", function () { boxes = {}; pick(); });
    chart.on("plotly_doubleclick", function () { boxes = {}; pick(); });
  }

  document.querySelectorAll("button[data-shows]").forEach(function (button) {
    button.addEventListener("click", function () {
      document.getElementById(button.dataset.shows).classList.add("all");
      button.remove();
    });
  });

  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      if (!head.classList.contains("sorts")) return;
      var ascending = false;
      head.addEventListener("click", function () {
        ascending = !ascending;
        var body = table.tBodies[0];
        Array.prototype.slice.call(body.rows).sort(function (one, other) {
          return compare(key(one.cells[column]), key(other.cells[column])) * (ascending ? 1 : -1);
        }).forEach(function (row) { body.appendChild(row); });
      });
    });
  });
  function key(cell) { return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value; }
  function compare(one, other) {
    var a = parseFloat(one), b = parseFloat(other);
    if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1;
    return isNaN(a) ? one.localeCompare(other) : a - b;
  }
})();
