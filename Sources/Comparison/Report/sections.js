// The sections about one workload: what its runs spend, why they exit, and how writes reach the
// hypervisor.

/** What cycles are spent on, in the order of a bar's parts. */
const groups = [
  { key: "guest", label: "the guest's own instructions", paint: 0 },
  { key: "translation", label: "TLB misses and walks", paint: 1 },
  { key: "exits", label: "transfers: exits and entries", paint: 2 },
  { key: "recording", label: "recording writes", paint: 3 },
  { key: "handling", label: "handling faults, operations, writes", paint: 4 },
  { key: "coherence", label: "draining and reading again", paint: 5 },
  { key: "shadow", label: "making, filling, dropping shadow pages", paint: 6 },
];

/** Exits, without those of the engine itself, which no hardware would take. */
const reasons = [
  ["page-fault", 1], ["table-write", 2], ["second-dimension-fault", 6], ["root-loaded", 5],
  ["invalidate-page", 4], ["invalidate-pcid", 3], ["paging-mode-changed", 0],
  ["buffer-threshold", 7], ["buffer-full", 8],
].map(([key, paint]) => ({ key, label: words(key), paint }));

/** How a bar tells what a run costs. */
const priceNote = (cell) =>
  short(cell.price.cycles) + (cell.slowdown === undefined ? "" : `, ${times(cell.slowdown)}`);

/** The bar of a run: its items, or their sums by group. */
function priceParts(cell, byItem) {
  return groups.flatMap((group) => {
    const items = cell.price.items.filter((item) => item.group === group.key);
    if (!byItem) {
      return [{ ...group, value: sum(items.map((item) => item.cycles)) }];
    }
    return items.filter((item) => item.cycles > 0).map((item) => ({
      key: item.figure, label: words(item.figure), paint: group.paint, value: item.cycles,
      more: `${exact(item.count)} × ${exact(item.each)} cycles; ${group.label}`,
    }));
  });
}

/** A figure with its title, what it says, a drawing that needs its width, and its numbers. */
function figure(place, id, title, caption, drawing, numbers) {
  const room = make("div");
  const element = make("figure", { id }, make("h3", {}, title), make("figcaption", {}, caption), room);
  place.append(element);
  drawing(room);
  if (numbers) {
    element.append(make("details", {}, make("summary", {}, "As a table"),
      make("div", { class: "scroll" }, numbers())));
  }
}

/** Rows of kinds by technique: the numbers behind stacked bars. */
const kindsTable = (cells, kinds, value) => table(
  [{ key: "kind", title: "", value: (kind) => kind.label },
    ...cells.map((cell) => ({
      key: cell.technique, title: cell.technique, falls: true, value: (kind) => value(cell, kind),
    }))],
  kinds);

function showCycles(place, cells) {
  const figures = [...new Set(cells.flatMap((cell) => cell.price.items.map((item) => item.figure)))]
    .map((key) => ({ key, label: words(key) }))
    .filter((kind) => cells.some((cell) => itemCycles(cell, kind) > 0));
  figure(place, "cycles", "Cycles by item",
    "Each part is one item of the price: a count of the ledger times its figure. Items of one kind "
      + "of work share a paint.",
    (room) => {
      stackedBars(room, cells.map((cell) => ({
        label: cell.technique, note: priceNote(cell), parts: priceParts(cell, true),
      })), { unit: "cycles", shares: state.bars === "share",
        description: "Priced cycles of each technique by item." });
      room.append(legend(groups));
    },
    () => kindsTable(cells, figures, itemCycles));
}

const itemCycles = (cell, kind) =>
  cell.price.items.find((item) => item.figure === kind.key)?.cycles ?? 0;

function showExits(place, cells) {
  const met = reasons.filter((reason) => cells.some((cell) => count(cell, "exits", reason.key)));
  const say = cells.length ? "Transfers from the guest to the hypervisor." : "";
  figure(place, "exits", "Exits by reason", met.length ? say : "No technique had any.",
    (room) => {
      if (!met.length) return;
      stackedBars(room, cells.map((cell) => ({
        label: cell.technique, note: short(cell.summary.exits),
        parts: met.map((reason) => ({ ...reason, value: count(cell, "exits", reason.key) })),
      })), { unit: "exits", description: "Exits of each technique by reason." });
      room.append(legend(met));
    },
    met.length ? () => kindsTable(cells, met, (cell, reason) => count(cell, "exits", reason.key))
      : null);
}

const noticed = [
  { key: "exit", label: "by an exit for each", paint: 2, value: (cell) => count(cell, "exits", "table-write") },
  { key: "recorded", label: "by a record", paint: 7, value: (cell) => count(cell, "traced-writes", "recorded") },
  { key: "coalesced", label: "coalesced: by an earlier equal record", paint: 3,
    value: (cell) => count(cell, "traced-writes", "coalesced") },
];

function showWrites(place, cells) {
  const any = cells.some((cell) => cell.summary.writesNoticed > 0);
  figure(place, "writes", "How writes to page tables were noticed",
    any ? "Techniques without a bar do not notice writes, or only the first to a table."
      : "No technique noticed any.",
    (room) => {
      if (!any) return;
      stackedBars(room, cells.map((cell) => ({
        label: cell.technique, note: short(cell.summary.writesNoticed),
        parts: noticed.map((kind) => ({ ...kind, value: kind.value(cell) })),
      })), { unit: "writes", description: "Writes to page tables by how they were noticed." });
      room.append(legend(noticed));
    },
    any ? () => kindsTable(cells, noticed, (cell, kind) => kind.value(cell)) : null);
}

const kindsOfPlaces = {
  "exits-by-function": "function", "exits-by-code": "code address", "exits-by-process": "process",
};

/** Where exits come from: the places with the most of them over all techniques. */
function showPlaces(place, cells) {
  const kinds = Object.keys(kindsOfPlaces).filter((kind) =>
    cells.some((cell) => cell.places?.some((places) => places.kind === kind)));
  const kind = kinds.includes(state.places) ? state.places : kinds[0];
  figure(place, "places", "Where exits come from",
    kind ? "Exits by the guest code, or the process, that caused them, to one scale. Code that the symbols "
      + "do not name, such as that of programs, has no function."
      : "The ledgers do not tell it: no run had exits, or none in a region that the guest marked.",
    (room) => {
      if (!kind) return;
      const choice = make("select", {}, ...kinds.map((each) =>
        make("option", { value: each }, kindsOfPlaces[each])));
      choice.value = kind;
      choice.addEventListener("change", () => {
        setState({ places: choice.value });
        showOne();
        document.querySelector("#places select").focus();
      });
      room.append(make("div", { class: "controls" }, make("label", {}, "By ", choice)),
        make("div", { class: "scroll" }, placesTable(cells, kind)));
    });
}

function placesTable(cells, kind) {
  const rows = new Map();
  const tried = cells.filter((cell) => cell.summary.exits > 0);
  for (const cell of tried) {
    for (const places of cell.places ?? []) {
      if (places.kind !== kind) continue;
      for (const entry of places.top) {
        const row = rows.get(entry.place) ?? { name: entry.place, by: {}, reasons: {}, total: 0 };
        rows.set(entry.place, row);
        if (entry.symbol) row.name = `${entry.symbol} (${entry.place})`;
        row.by[cell.technique] = (row.by[cell.technique] ?? 0) + entry.count;
        row.total += entry.count;
        for (const [reason, number] of Object.entries(entry.reasons)) {
          row.reasons[reason] = (row.reasons[reason] ?? 0) + number;
        }
      }
    }
  }
  const shown = [...rows.values()].sort((a, b) => b.total - a.total).slice(0, 20);
  const most = Math.max(...shown.flatMap((row) => Object.values(row.by)), 1);
  return table([
    { key: "place", title: words(kindsOfPlaces[kind]), value: (row) => row.name },
    ...tried.map((cell) => ({
      key: cell.technique, title: cell.technique, falls: true,
      value: (row) => row.by[cell.technique] ?? 0,
      show: (row) => {
        const number = row.by[cell.technique] ?? 0;
        const bar = make("span", { class: "bar" });
        bar.style.width = `${number / most * 100}%`;
        return make("div", {}, exact(number), bar);
      },
    })),
    { key: "reasons", title: "for", left: "left",
      value: (row) => Object.entries(row.reasons).sort((a, b) => b[1] - a[1])
        .slice(0, 3).map(([reason]) => words(reason)).join(", ") },
  ], shown);
}

/** The points of a cell's series by column's name, each from where the last one ended. */
function seriesOf(cell) {
  const { columns, points, interval } = cell.series ?? { columns: [], points: [], interval: 0 };
  const named = points.map((point) =>
    Object.fromEntries(columns.map((column, index) => [column, point[index]])));
  return named.map((point, index) => ({
    ...point, to: point.instructions, from: named[index - 1]?.instructions
      ?? Math.max(0, point.instructions - interval),
    /** What a sum grew by; the first point of a run that was restored has no earlier one. */
    grown: (column) => point[column] - (named[index - 1]?.[column] ?? 0),
  }));
}

/** Small charts over the run, one a technique that has anything to show, all to one scale. */
function overRun(place, id, title, caption, cells, { parts, unit, limit }) {
  const courses = cells.map((cell) => ({
    cell, points: seriesOf(cell).map((point) => ({ ...point, parts: parts(point) })),
  })).filter(({ points }) => points.some((point) => point.parts.some((part) => part.value > 0)));
  const total = (point) => sum(point.parts.map((part) => part.value));
  const most = Math.max(...courses.flatMap(({ points }) => points.map(total)), 1);
  figure(place, id, title, courses.length ? caption : "Nothing to show in these runs.", (room) => {
    const charts = make("div", { class: "times" });
    room.append(charts);
    const places = courses.map(({ cell }) => {
      const chart = make("div", {}, make("h3", {}, cell.technique));
      charts.append(chart);
      return chart;
    });
    courses.forEach(({ cell, points }, index) => {
      const line = limit?.(cell);
      columnsOverRun(places[index], points, {
        unit, limit: line, most: Math.max(most, line?.value ?? 0),
        description: `${title}, under ${cell.technique}, over the run's instructions.`,
      });
    });
    if (courses[0]?.points[0].parts.length > 1) room.append(legend(courses[0].points[0].parts));
  });
}

/** The line at which a full buffer makes an exit, from the technique's parameters. */
function threshold(cell) {
  const found = /(?:^|,)threshold=(\d+)/.exec(cell.facts?.technique ?? "");
  return found && +found[1] > 0 ? { value: +found[1], label: `threshold, ${found[1]} records` } : null;
}

function showCourses(place, cells) {
  const halves = [make("div"), make("div")];
  place.append(make("div", { class: "two" }, ...halves));
  overRun(halves[0], "buffer", "How full the write buffer gets",
    "The most records that waited in one buffer, in each stretch of the run.", cells,
    { unit: "records at most", limit: threshold,
      parts: (point) => [{ label: "waiting", paint: 7, value: point["buffered-records"] }] });
  overRun(halves[1], "coalescing", "How records coalesce",
    "Writes to traced pages in each stretch of the run: those that made a record, and those that "
      + "an equal one stood for.", cells,
    { unit: "writes", parts: (point) => [
      { label: "recorded", paint: 7, value: point.grown("records") },
      { label: "coalesced", paint: 3, value: point.grown("coalesced") }] });
  overRun(place, "shadow", "How shadow memory grows",
    "Shadow pages in existence at the end of each stretch of the run, 4 KiB each.", cells,
    { unit: "pages", parts: (point) => [
      { label: "shadow pages", paint: 6, value: point["shadow-pages"] }] });
}

/** The chosen workload. */
function showOne() {
  const place = byId("one");
  const cells = done(state.workload).filter((cell) => cell.price && cell.summary);
  place.replaceChildren();
  byId("workload").value = state.workload;
  if (!cells.length) {
    place.append(make("p", { class: "notice bad" }, "No run of this workload is done."));
    return;
  }
  place.append(make("p", { class: "note" }, make("strong", {}, state.workload),
    `: ${exact(cells[0].summary.instructions)} instructions in the part of the run that is counted `
    + `(${cells[0].regions?.length ? `regions ${cells[0].regions.join(", ")}` : "the whole run"}). `
    + "Charts over the run show all of it, from where it started."));
  showCycles(place, cells);
  const two = make("div", { class: "two" });
  place.append(two);
  // Both are in the page before either measures its width.
  const halves = [make("div"), make("div")];
  two.append(...halves);
  showExits(halves[0], cells);
  showWrites(halves[1], cells);
  showPlaces(place, cells);
  showCourses(place, cells);
}
