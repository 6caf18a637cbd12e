"""The script of a report: tables sort when a column's name is pressed, and folds open for printing.

The page is whole without it. It is in the page, loads nothing, and runs because the page's policy names its hash.
"""

from __future__ import annotations

import base64
import hashlib

SCRIPT = """
"use strict";
(function () {
  const NUMBER = /^[+-]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[+-]?\\d+)?(?= ?(?:\\u00b1|\\[|%|\\u00d7|$))/i;
  const order = new Intl.Collator("en", { numeric: true }).compare;

  function values(rows, column) {
    const texts = rows.map(function (row) { return row.cells[column].textContent.trim(); });
    const filled = texts.filter(function (text) { return text !== ""; });
    const numeric = filled.length > 0 && filled.every(function (text) { return NUMBER.test(text); });
    return texts.map(function (text) {
      return text === "" ? null : numeric ? Number(NUMBER.exec(text)[0]) : text;
    });
  }

  // Ascending, descending, then as it was. Rows with nothing in the column stay last; ties keep the page's order.
  function sorted(rows, column, direction) {
    if (direction === 0) { return rows; }
    const keys = values(rows, column);
    const places = rows.map(function (_, place) { return place; });
    places.sort(function (a, b) {
      const one = keys[a], other = keys[b];
      if (one === null || other === null) { return (one === null) - (other === null) || a - b; }
      const found = typeof one === "number" ? one - other : order(one, other);
      return direction * found || a - b;
    });
    return places.map(function (place) { return rows[place]; });
  }

  const STATES = ["none", "ascending", "descending"];

  function sortable(table) {
    const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells), rows = Array.from(body.rows);
    if (rows.length < 2) { return; }
    heads.forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "Sort by " + head.textContent;
      head.dataset.name = head.textContent;  // what paper shows, on which a button is not repeated on every page
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("click", function () {
        const state = (STATES.indexOf(head.getAttribute("aria-sort") || "none") + 1) % 3;
        heads.forEach(function (each) { each.removeAttribute("aria-sort"); });
        if (state) { head.setAttribute("aria-sort", STATES[state]); }
        sorted(rows, column, [0, 1, -1][state]).forEach(function (row) { body.appendChild(row); });
      });
    });
  }

  if (typeof document === "undefined") {  // no browser: for whoever tests the order
    module.exports = sorted;
    return;
  }
  document.querySelectorAll("table").forEach(sortable);

  let opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    opened.forEach(function (fold) { fold.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (fold) { fold.open = false; });
    opened = [];
  });
})();
"""
HASH = f"sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode('utf-8')).digest()).decode('ascii')}"
