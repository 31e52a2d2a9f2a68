// The page as a whole.

function showLead() {
  byId("lead").textContent = `${data.workloads.length} `
    + `${data.workloads.length === 1 ? "workload" : "workloads"}, ${data.techniques.length} `
    + `${data.techniques.length === 1 ? "technique" : "techniques"}, one guest: counted exactly by `
    + `${data.program}, priced by ${data.profile.name} (${data.profile.description}).`;
}

/** Whether the runs are comparable: said first, as all else rests on it. */
function showAgreement() {
  const finished = data.cells.filter((cell) => cell.status === "done");
  const failed = data.cells.filter((cell) => cell.status === "failed");
  const missing = data.cells.length - finished.length - failed.length;
  const lines = [];
  if (data.disagreements.length) {
    lines.push(...data.disagreements.map((difference) =>
      `Different: ${difference.workload} × ${difference.technique} did not do what `
      + `${difference.reference} did: ${difference.digest} in place of ${difference.referenceDigest}`));
  } else if (finished.length) {
    lines.push(`All ${finished.length} finished runs agree: under every technique the guest executed `
      + "the same instructions, wrote the same output, and ended with the same registers and memory, "
      + "to the bit.");
  }
  lines.push(...failed.map((cell) => `Failed: ${cell.workload} × ${cell.technique}: ${cell.problem}`));
  if (missing) lines.push(`Not run: ${missing} of ${data.cells.length}.`);
  const bad = data.disagreements.length || failed.length || missing;
  byId("agreement").replaceChildren(make("div", { class: bad ? "notice bad" : "notice" },
    ...lines.map((line, index) => make("p", {}, index || bad ? line : `✓ ${line}`))));
}

const cellOf = (workload, technique) =>
  data.cells.find((cell) => cell.workload === workload && cell.technique === technique);

function showSlowdown() {
  const most = Math.max(...data.cells.map((cell) => cell.slowdown ?? 1), 1.01);
  const heat = (value) => Math.log(Math.max(value, 1)) / Math.log(most);
  const best = (workload) => Math.min(...data.techniques.filter((name) => name !== "bare")
    .map((name) => cellOf(workload, name)?.slowdown ?? Infinity));
  const columns = [
    { key: "workload", title: "Workload", value: (workload) => workload,
      show: (workload) => linkTo(workload) },
    ...data.techniques.map((technique) => ({
      key: technique, title: technique, falls: true,
      value: (workload) => cellOf(workload, technique)?.slowdown,
      show: (workload) => {
        const cell = cellOf(workload, technique);
        if (cell?.slowdown !== undefined) return times(cell.slowdown);
        return cell?.status === "failed" ? "failed" : cell?.price ? "–" : "not run";
      },
      style: (workload) => {
        const value = cellOf(workload, technique)?.slowdown;
        if (value === undefined) return null;
        return [technique !== "bare" && value === best(workload) ? "best" : "",
          heat(value) > 0.85 ? "strong" : ""].join(" ").trim() || null;
      },
    })),
  ];
  const made = table(columns, data.workloads);
  for (const place of made.querySelectorAll("td[data-value]")) {
    const value = +place.dataset.value;
    place.style.background = `rgb(var(--heat) / ${(heat(value) * 0.92).toFixed(3)})`;
  }
  byId("slowdown").replaceChildren(made);
}

/** A workload's name, which chooses it. */
function linkTo(workload) {
  const button = make("button", { type: "button", class: "link" }, workload);
  button.addEventListener("click", () => {
    setState({ workload });
    showOne();
    byId("h-one").scrollIntoView();
    byId("workload").focus({ preventScroll: true });
  });
  return button;
}

function showPanels() {
  byId("bars").value = state.bars;
  byId("group-legend").replaceWith(fill(legend(groups), { id: "group-legend" }, []));
  const panels = data.workloads.map((workload) => {
    const panel = make("div", { class: "panel", "data-workload": workload },
      make("h3", {}, linkTo(workload)));
    return { workload, panel };
  });
  byId("panels").replaceChildren(...panels.map(({ panel }) => panel));
  for (const { workload, panel } of panels) {
    const cells = done(workload).filter((cell) => cell.price);
    const room = make("div");
    panel.append(room);
    if (!cells.length) room.append(make("p", { class: "note" }, "No run is done."));
    else {
      stackedBars(room, cells.map((cell) => ({
        label: cell.technique, parts: priceParts(cell, false),
        note: cell.slowdown === undefined ? short(cell.price.cycles) : times(cell.slowdown),
      })), { unit: "cycles", shares: state.bars === "share", percents: false,
        description: `${workload}: cycles of each technique by kind of work.` });
    }
  }
}

function showRuns() {
  byId("filter").value = state.filter;
  byId("counts").checked = state.counts !== "";
  const wanted = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const cells = data.cells.filter((cell) => wanted.every((word) =>
    `${cell.workload} ${cell.technique}`.toLowerCase().includes(word)));
  byId("runs").replaceChildren(table(runColumns(state.counts !== ""), cells, {
    sorted: { key: state.sort, order: state.order },
    chosen: (sort, order) => setState({ sort, order }),
  }));
}

function showPrices() {
  byId("profile").textContent = `Cycles of ${data.profile.name}, ${data.profile.gigahertz} GHz. A price `
    + "is no simulation: figures are averages, caches have no state, and nothing overlaps. Figures "
    + "that are recalled or derived say so.";
  const figures = Object.entries(data.profile.figures).map(([name, entry]) => ({ name, ...entry }));
  byId("figures").replaceChildren(table([
    { key: "figure", title: "Figure", value: (row) => words(row.name) },
    { key: "cycles", title: "Cycles", falls: true, value: (row) => row.cycles },
    { key: "given", title: "As given", left: "left", value: (row) => row.given },
    { key: "state", title: "State", left: "left", value: (row) => row.state },
    { key: "source", title: "Source", left: "wrap", value: (row) => row.source },
    { key: "derivation", title: "Derivation", left: "wrap", value: (row) => row.derivation },
  ], figures));
}

function showOrigin() {
  const rows = [
    ["Program", data.program], ["SHA-256 of its file", data.build],
    ["The guest's options", data.guest.join(" ")],
    ["Every run starts", data.fromRegion === undefined ? "at the boot, or from the saved machine below"
      : `from one saved machine, where region ${data.fromRegion} begins`],
    ...data.files.map((file) => [words(file.role), `${file.path}, SHA-256 ${file.sha256}`]),
    ["SHA-256 of the price profile", data.profile.digest],
  ];
  byId("origin").replaceChildren(make("table", {}, make("tbody", {}, ...rows.map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "wrap" }, value))))));
}

function showAll() {
  showTheme();
  showPanels();
  showOne();
  showRuns();
}

/** Another workload, so many further in the list. */
function step(by) {
  const names = data.workloads;
  const index = (names.indexOf(state.workload) + by + names.length) % names.length;
  setState({ workload: names[index] });
  showOne();
}

function listen() {
  byId("theme").addEventListener("click", () => {
    setState({ theme: showTheme() === "dark" ? "light" : "dark" });
    showTheme();
  });
  systemIsDark.addEventListener("change", showTheme);
  // Paper is light.
  addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; });
  addEventListener("afterprint", showTheme);
  byId("workload").append(...data.workloads.map((name) => make("option", { value: name }, name)));
  byId("workload").addEventListener("change", (event) => {
    setState({ workload: event.target.value });
    showOne();
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("bars").addEventListener("change", (event) => {
    setState({ bars: event.target.value });
    showPanels();
    showOne();
  });
  byId("filter").addEventListener("input", (event) => {
    setState({ filter: event.target.value });
    showRuns();
  });
  byId("counts").addEventListener("change", (event) => {
    setState({ counts: event.target.checked ? "all" : "" });
    showRuns();
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("h-runs").focus();
  });
  addEventListener("hashchange", () => {
    readState();
    showAll();
  });
  // Charts are drawn to the width that they have.
  let width = innerWidth;
  let timer;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(() => {
      showPanels();
      showOne();
    }, 150);
  });
  addEventListener("scroll", hideTip, { passive: true });
}

readState();
showLead();
showAgreement();
showSlowdown();
showPrices();
showOrigin();
listen();
showAll();
