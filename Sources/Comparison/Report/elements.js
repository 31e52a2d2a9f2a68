"use strict";
// What the rest of the page is made with: elements, numbers, and the state in the address.
//
// Names in the data may come from a guest. They reach the page as text and as attributes alone,
// never as markup.

/** The comparison, as Docs/Comparison.md describes it. */
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** Makes an element; children are elements or texts, attributes that are null are left out. */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for the elements of a picture. */
function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** `12,345`. */
const exact = (number) => number.toLocaleString("en-US", { maximumFractionDigits: 6 });

/** `999`, `1.2k`, `35M`. */
function short(number) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) {
      const scaled = number / size;
      return `${scaled < 10 ? scaled.toFixed(1) : scaled.toFixed(0)}${unit}`;
    }
  }
  return String(Math.round(number * 100) / 100);
}

const percent = (share) => share > 0 && share < 0.01 ? "<1 %" : `${Math.round(share * 100)} %`;
const words = (name) => name.replaceAll("-", " ");
const times = (number) => `${number.toFixed(number < 10 ? 2 : 1)}×`;
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/** A count of a cell's ledger; 0 where it has none. */
const count = (cell, section, row) => cell.counts?.[section]?.[row] ?? 0;

/** The cells of one workload that are done, in the techniques' order. */
const done = (workload) =>
  data.cells.filter((cell) => cell.workload === workload && cell.status === "done");

// The state of the page is in its address after "#", so that a view can be kept, sent, and gone
// back to: workload, bars, places, sort, order, filter, counts, theme.
const defaults = {
  workload: data.workloads[0] ?? "", bars: "cycles", places: "", sort: "", order: "ascending",
  filter: "", counts: "", theme: "",
};
const state = {};

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(defaults)) state[name] = given.get(name) ?? defaults[name];
  if (!data.workloads.includes(state.workload)) state.workload = defaults.workload;
}

/** Changes the state and its address. What shows it is drawn by the caller. */
function setState(changes) {
  Object.assign(state, changes);
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== defaults[name]) kept.set(name, value);
  }
  history.replaceState(null, "", `#${kept}`);
}

/** Light or dark: as chosen, else as the system has it. */
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
  const theme = state.theme || (systemIsDark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "☀ Light" : "☾ Dark";
  return theme;
}

/** Shows a note beside a mark, for the pointer and for the keyboard. */
function showTip(text, mark) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const at = mark.getBoundingClientRect();
  const left = Math.min(at.left, innerWidth - tip.offsetWidth - 8);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}

const hideTip = () => { byId("tip").hidden = true; };
