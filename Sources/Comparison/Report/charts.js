// Charts: stacked bars, and columns over the run. Every mark tells its figure to the pointer, and to
// the arrow keys where the chart has the focus. No colour is used alone: each goes with a texture.

// A paint is one of nine colours (those of Okabe and Ito, a light and a dark grey) with its texture.
const textures = ["", "dots", "rising", "across down", "", "across", "falling", "down", ""];

/** The texture of a paint in a rectangle: a path, which prints as such. */
function texture(paint, { x, y, width, height }) {
  const [right, bottom] = [x + width, y + height];
  const next = (from, step) => Math.ceil(from / step) * step;
  const lines = [];
  const line = (...ends) => lines.push(`M${ends.map((end) => end.toFixed(1)).join(" ")}`);
  const kind = (name) => textures[paint].split(" ").includes(name);
  if (kind("across")) for (let v = y + 2; v < bottom; v += 5) line(x, v, right, v);
  if (kind("down")) for (let u = next(x, 5); u < right; u += 5) line(u, y, u, bottom);
  if (kind("dots")) {
    for (let u = next(x, 5); u + 1.5 < right; u += 5) {
      for (let v = y + 2.5; v < bottom; v += 5) line(u, v, u + 1.5, v);
    }
  }
  if (kind("rising") || kind("falling")) {
    const [start, sign] = kind("rising") ? [bottom, -1] : [y, 1];
    for (let u = next(x - height, 6); u < right; u += 6) {
      const [from, to] = [Math.max(0, x - u), Math.min(height, right - u)];
      line(u + from, start + sign * from, u + to, start + sign * to);
    }
  }
  return draw("path", { d: lines.join(""), class: "texture" });
}

/** What the paints mean. */
function legend(kinds) {
  return make("div", { class: "legend" }, ...kinds.map((kind) =>
    make("span", {}, draw("svg", { width: 18, height: 14, "aria-hidden": "true" },
      draw("rect", { width: 18, height: 14, class: `c${kind.paint}` }),
      texture(kind.paint, { x: 0, y: 0, width: 18, height: 14 })), kind.label)));
}

/** An empty picture as wide as its place, whose marks the keys can go through. */
function picture(place, height, description) {
  const width = Math.max(260, Math.floor(place.clientWidth) || 640);
  const svg = draw("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0,
    "aria-label": `${description} Arrow keys go through the figures.`,
  });
  let at = -1;
  const go = (index) => {
    const marks = svg.querySelectorAll(".mark");
    marks[at]?.classList.remove("at");
    at = Math.max(-1, Math.min(index, marks.length - 1));
    const mark = marks[at];
    if (!mark) return hideTip();
    mark.classList.add("at");
    showTip(mark.dataset.tip, mark);
  };
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") go(-1);
    if (!step) return;
    event.preventDefault();
    go(Math.max(0, at + step));
  });
  svg.addEventListener("blur", () => go(-1));
  svg.addEventListener("pointerover", (event) => {
    const tip = event.target.dataset?.tip;
    if (tip) showTip(tip, event.target);
  });
  svg.addEventListener("pointerout", hideTip);
  place.append(svg);
  return { svg, width };
}

/** A part of a picture that stands for a figure. */
const mark = (paint, attributes, tip, value) =>
  draw("rect", {
    ...attributes, "data-tip": tip, "data-value": value,
    class: `mark c${paint}${attributes.width < 4 ? " thin" : ""}`,
  });

/**
 * Stacked bars. Rows have a `label`, a `note` for the bar's end, and `parts` with `label`, `value`,
 * `paint`; all are drawn to one scale, or each to its own sum.
 */
function stackedBars(place, rows, { description, unit, shares = false, percents = true }) {
  const totals = rows.map((row) => sum(row.parts.map((part) => part.value)));
  const most = Math.max(...totals, 1e-9);
  const longest = Math.max(...rows.map((row) => row.label.length), 1);
  const above = longest > 12 || place.clientWidth < 300;
  const height = above ? 42 : 25;
  const { svg, width } = picture(place, rows.length * height + 2, description);
  const left = above ? 0 : longest * 7.4 + 10;
  const noted = Math.max(...rows.map((row) => row.note.length), 0) * 7 + 10;
  const room = width - left - noted;
  rows.forEach((row, index) => {
    const y = index * height + (above ? 17 : 2);
    const g = draw("g", { class: "row", "data-row": row.label },
      draw("text", { x: 0, y: above ? y - 4 : y + 14, class: "name" }, row.label));
    const scale = room / (shares ? totals[index] || 1 : most);
    let x = left;
    for (const part of row.parts) {
      const wide = part.value * scale;
      if (part.value <= 0) continue;
      const share = part.value / totals[index];
      const place = { x, y, width: wide, height: 20 };
      const tip = `${row.label}: ${part.label}\n${exact(part.value)} ${unit} (${percent(share)})`
        + (part.more ? `\n${part.more}` : "");
      g.append(mark(part.paint, { ...place, "data-part": part.key }, tip, part.value),
        texture(part.paint, place));
      x += wide;
    }
    // Shares are told once for all neighbours of one paint.
    let start = left;
    for (let first = 0; percents && first < row.parts.length;) {
      let last = first;
      let value = 0;
      while (last < row.parts.length && row.parts[last].paint === row.parts[first].paint) {
        value += row.parts[last++].value;
      }
      const wide = value * scale;
      if (wide > 38) {
        g.append(draw("text", {
          x: start + wide / 2, y: y + 14, "text-anchor": "middle", "aria-hidden": "true",
          "pointer-events": "none", class: `inside on${row.parts[first].paint}`,
        }, percent(value / totals[index])));
      }
      start += wide;
      first = last;
    }
    g.append(draw("text", { x: x + 6, y: y + 14 }, row.note));
    svg.append(g);
  });
}

/** Round figures from 0 to a maximum. */
function ticks(most) {
  const step = 10 ** Math.floor(Math.log10(most || 1));
  const unit = [0.2, 0.25, 0.5, 1, 2.5].map((factor) => factor * step).find((s) => most / s <= 4.5) ?? step;
  return Array.from({ length: Math.floor(most / unit) + 1 }, (_, index) => index * unit);
}

/**
 * Columns over the run: `points` with `from` and `to` in instructions, and `parts` as those of a
 * bar. A `limit` is a line with its `label` at a `value`.
 */
function columnsOverRun(place, points, { description, unit, most, limit }) {
  const [top, bottom, left, height] = [18, 22, 44, 120];
  const { svg, width } = picture(place, top + height + bottom, description);
  const [first, last] = [points[0].from, points.at(-1).to];
  const x = (instructions) => left + (instructions - first) / (last - first) * (width - left - 8);
  const y = (value) => top + height - value / (most || 1) * height;
  for (const value of ticks(most)) {
    svg.append(draw("line", { x1: left, x2: width - 8, y1: y(value), y2: y(value), class: "axis" }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", class: "soft" },
        short(value)));
  }
  for (const share of [0, 0.5, 1]) {
    const at = first + share * (last - first);
    svg.append(draw("text", {
      x: x(at), y: top + height + 16, class: "soft",
      "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle",
    }, `${exact(Math.round(at / 1e5) / 10)}M${share === 0.5 ? " instructions" : ""}`));
  }
  for (const point of points) {
    let base = 0;
    for (const part of point.parts) {
      if (part.value <= 0) continue;
      const [low, high] = [y(base), y(base + part.value)];
      const place = {
        x: x(point.from), width: Math.max(1, x(point.to) - x(point.from)), y: high,
        height: low - high,
      };
      svg.append(mark(part.paint, place, `${part.label}: ${exact(part.value)} ${unit}\nto instruction ${exact(point.to)}`,
      part.value));
      // With one kind of column there is nothing to tell apart.
      if (point.parts.length > 1) svg.append(texture(part.paint, place));
      base += part.value;
    }
  }
  if (limit) {
    svg.append(draw("line", {
      x1: left, x2: width - 8, y1: y(limit.value), y2: y(limit.value), class: "limit",
    }), draw("text", { x: width - 8, y: 11, "text-anchor": "end", class: "soft" },
      limit.label));
  }
}
