"use strict";
// What the scripts of the program's pages share: part of each of them (cmake/embed.cmake), before
// anything that can fail.

// Whatever goes wrong is said on the page, not only in the browser's console.
window.onerror = (message, source, line) => {
  const p = document.createElement("p");
  p.id = "error";
  p.setAttribute("role", "alert");
  p.textContent = `This page failed to show its data: ${message} (line ${line})`;
  (document.body ?? document.documentElement).prepend(p);
};

const byId = (id) => document.getElementById(id);

// An element with attributes and children; strings become text, never markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function makeSvg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// A line of the header's list: a name, and text or an element.
const addFact = (name, value) =>
  byId("facts").append(make("dt", {}, name), make("dd", {}, value));

// Three significant digits or all digits of the integer part.
function format(x) {
  if (!Number.isFinite(x)) return "–";
  const magnitude = Math.abs(x);
  const digits = magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 || x === 0 ? 2 : 3;
  return x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
const integer = (x) => x.toLocaleString("en", { maximumFractionDigits: 0 });
const percent = (fraction) => (100 * fraction).toFixed(1);
const plural = (n, noun, nouns = `${noun}s`) => `${integer(n)} ${n === 1 ? noun : nouns}`;

// The smallest of 1, 2, 5 times a power of ten that is at least x.
function niceStep(x) {
  const power = 10 ** Math.floor(Math.log10(x));
  return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= x * (1 - 1e-9));
}

// The page's tip with a title and text, below and to the right of a point of the page.
function showTip(title, text, pageX, pageY) {
  const tip = byId("tip");
  tip.hidden = false;
  tip.replaceChildren(make("b", {}, title), text);
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(pageX + 14, room))}px`;
  tip.style.top = `${pageY + 16}px`;
}
