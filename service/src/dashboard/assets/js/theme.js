/* Light, dark or as the system has it, before the first paint. */
(function () {
  let chosen = null;
  try { chosen = localStorage.getItem("curate-theme"); } catch { /* a browser without storage follows the system */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
