
"use strict";
const slices = JSON.parse(document.getElementById("slices").textContent);
const element = name => document.getElementById(name), on = name => element(name) === null || element(name).checked;
function show() {
  const slice = slices[element("slice").value];
  const t1 = element("show-t1") !== null && element("show-t1").checked;
  element("scan").src = t1 ? slice.t1 : slice.scan;
  element("map").src = slice.map;
  element("map").hidden = !on("show-map");
  if (slice.lesions) element("lesions").src = slice.lesions;
  element("lesions").hidden = !slice.lesions || !on("show-lesions");
  element("mm").textContent = "z = " + slice.mm + " mm";
}
document.querySelectorAll(".controls input").forEach(input => input.addEventListener("input", show));
document.addEventListener("keydown", event => {
  const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
  if (!step || event.target === element("slice")) return;
  element("slice").value = Number(element("slice").value) + step;
  event.preventDefault();
  show();
});
document.querySelectorAll("[data-z]").forEach(row => row.querySelector("img")?.addEventListener("click", () => {
  const index = slices.findIndex(slice => slice.z === Number(row.dataset.z));
  if (index >= 0) element("slice").value = index;
  show();
  document.querySelector(".viewer").scrollIntoView();
}));
show();
