// Replaces the moving part of the page with what the collector sends. Without this file the page reloads itself.
"use strict";

const live = document.getElementById("live");
const link = document.getElementById("link");

function show(state) {
  link.hidden = false;
  link.className = state;
  link.textContent = link.dataset[state];
}

const source = new EventSource(live.dataset.source);
source.onopen = () => show("live");
source.onerror = () => show("offline"); // the browser tries again by itself
source.onmessage = (event) => {
  live.innerHTML = event.data; // rendered and escaped by the collector
};
