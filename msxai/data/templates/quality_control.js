
"use strict";
const table = document.querySelector(".scans"), heads = [...table.tHead.rows[0].cells];
const find = document.getElementById("find"), flag = document.getElementById("flag");
const scans = [...table.tBodies].map(body => ({
  body, cells: [...body.rows[0].cells].map(cell => cell.textContent), flags: body.dataset.flags.split(" "),
  text: body.textContent.toLowerCase(),
}));
function filter() {
  const words = find.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const { body, flags, text } of scans) {
    const wanted = flag.value === "" || (flag.value === "*" ? flags[0] !== "" : flags.includes(flag.value));
    body.hidden = !(wanted && words.every(word => text.includes(word)));
    shown += !body.hidden;
  }
  document.getElementById("shown").textContent = shown + " of " + scans.length + " scans shown";
}
function sort(column) {
  const down = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heads.forEach(head => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
  const number = text => text === "\u2013" ? NaN : Number(text.replaceAll(",", ""));
  scans.sort((one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]], [x, y] = [number(a), number(b)];
    if ((a === "\u2013") !== (b === "\u2013")) return a === "\u2013" ? 1 : -1;  // nothing measured: last, either way
    return down * (isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
  });
  table.append(...scans.map(scan => scan.body));
}
heads.forEach((head, column) => head.firstChild.addEventListener("click", () => sort(column)));
find.addEventListener("input", filter);
flag.addEventListener("change", filter);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
filter();
