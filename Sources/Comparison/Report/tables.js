// Tables that sort.

/**
 * A table. Columns have a `title`, and by row `value`, what they are sorted by, and `show`, its text
 * or element; those with `left` stand at the left, by the class that it names. `sorted` is the column
 * and order to start with, `chosen` is told of a new one.
 */
function table(columns, rows, { sorted = {}, chosen = () => {}, caption } = {}) {
  const body = make("tbody");
  const heads = columns.map((column) => {
    const button = make("button", { type: "button", title: column.hint }, column.title);
    const head = make("th", {
      scope: "col", class: column.left ? "left" : null, "data-column": column.key,
    }, button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort")
        ? head.getAttribute("aria-sort") === "ascending" : column.falls;
      sort(column, down ? "descending" : "ascending");
      chosen(column.key, down ? "descending" : "ascending");
    });
    return head;
  });
  const lines = rows.map((row) => ({
    row, line: make("tr", {}, ...columns.map((column, index) => {
      const value = column.value(row);
      const shown = column.show ? column.show(row) : value ?? "–";
      return make(index ? "td" : "th", {
        scope: index ? null : "row", class: column.left ?? column.style?.(row) ?? null,
        "data-column": column.key, "data-value": value,
      }, shown instanceof Node ? shown : typeof shown === "number" ? exact(shown) : shown);
    })),
  }));
  function sort(column, order) {
    heads.forEach((head, index) => {
      if (columns[index] === column) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    });
    const sign = order === "descending" ? -1 : 1;
    const ordered = [...lines].sort((one, other) => {
      const [a, b] = [column.value(one.row), column.value(other.row)];
      // What is not known comes last in either order.
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * (typeof a === "number" ? a - b : String(a).localeCompare(b));
    });
    body.replaceChildren(...ordered.map((entry) => entry.line));
  }
  body.append(...lines.map((entry) => entry.line));
  const column = columns.find((column) => column.key === sorted.key);
  if (column) sort(column, sorted.order);
  return make("table", {}, ...(caption ? [make("caption", {}, caption)] : []),
    make("thead", {}, make("tr", {}, ...heads)), body);
}

/** The columns of the table of runs: the summary, or all counts of the ledger after it. */
function runColumns(withCounts) {
  const summary = (key, title, hint) => ({
    key, title, hint, falls: true, value: (cell) => cell.summary?.[key],
  });
  const columns = [
    { key: "workload", title: "Workload", value: (cell) => cell.workload },
    {
      key: "technique", title: "Technique", left: "left", value: (cell) => cell.technique,
      hint: "The run's configuration in full is the note on each name",
      show: (cell) => make("span", { title: cell.facts?.technique }, cell.technique),
    },
    summary("instructions", "Instructions"),
    {
      key: "cycles", title: "Cycles", hint: "By the price profile", falls: true,
      value: (cell) => cell.price?.cycles,
      show: (cell) => cell.price ? exact(cell.price.cycles)
        : cell.status === "failed" ? "failed" : "not run",
    },
    {
      key: "slowdown", title: "× bare", falls: true, value: (cell) => cell.slowdown,
      show: (cell) => cell.slowdown === undefined ? "–" : cell.slowdown.toFixed(3),
    },
    summary("exits", "Exits", "Those that hardware would take, too"),
    summary("writesNoticed", "Writes noticed", "Writes to page tables that the hypervisor learned of"),
    summary("records", "Records"),
    summary("coalesced", "Coalesced"),
    summary("drains", "Drains"),
    summary("hiddenFaults", "Hidden faults", "Resolved by the hypervisor itself"),
    summary("trueFaults", "True faults", "Delivered to the guest"),
    summary("spuriousFaults", "Spurious", "Faults that the guest's tables do not justify"),
    summary("walkReferences", "Walk references"),
    summary("tlbMisses", "TLB misses"),
    summary("shadowPages", "Shadow pages", "The most at one time"),
    summary("shadowBytes", "Their bytes"),
    {
      key: "seconds", title: "Seconds", hint: "Real time of the run on the host", falls: true,
      value: (cell) => cell.seconds,
      show: (cell) => cell.seconds === undefined ? "–" : cell.seconds.toFixed(2),
    },
  ];
  if (!withCounts) return columns;
  const names = new Set(data.cells.flatMap((cell) => Object.entries(cell.counts ?? {})
    .flatMap(([section, rows]) => Object.keys(rows).map((row) => `${section}/${row}`))));
  for (const name of [...names].sort()) {
    const [section, row] = name.split("/");
    columns.push({
      key: name, title: words(name), falls: true, value: (cell) => cell.counts?.[section]?.[row],
    });
  }
  return columns;
}
