"use strict";
/* The map: points on a canvas that can be moved, enlarged and asked what they are, by pointer and by keys. */
const SIDE = 4095;

function corpusMap(map, make) {
  const canvas = make("canvas", { tabIndex: 0, id: "canvas" });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Map of the corpus. Arrow keys move, plus and minus zoom, 0 shows all, Enter reads the point in the middle.");
  const about = make("div", { className: "about", textContent: "Point at a dot to read its row." });
  about.setAttribute("aria-live", "polite");
  const legend = make("div", { className: "legend" });
  const colour = make("select", { id: "colour" });
  const views = [{ name: "chosen or not", kind: "state" }]
    .concat(map.parts.map((own) => ({ name: own.by, kind: "parts", own })))
    .concat(map.numbers.map((own) => ({ name: own.by, kind: "numbers", own })));
  views.forEach((view, i) => colour.append(make("option", { value: i, textContent: view.name })));
  const only = make("input", { type: "checkbox", id: "only" });
  const count = map.row.length;
  const order = Array.from({ length: count }, (_, i) => i).sort((a, b) => (map.state[a] === 1) - (map.state[b] === 1) || a - b);
  let scale = 1, left = 0, top = 0, asked = -1, frame = 0;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ramp = (share) => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const stops = dark ? [[59, 66, 120], [44, 150, 160], [250, 222, 90]] : [[214, 214, 130], [40, 140, 140], [60, 25, 100]];
    const [from, to, part] = share < 0.5 ? [stops[0], stops[1], share * 2] : [stops[1], stops[2], share * 2 - 1];
    return "rgb(" + from.map((v, i) => Math.round(v + (to[i] - v) * part)).join() + ")";
  };
  const palette = () => {
    const view = views[colour.value];
    if (view.kind === "state") {
      const own = [css("--whole"), css("--picked"), css("--gone")];
      return (i) => own[map.state[i]];
    }
    const grey = css("--cx");
    if (view.kind === "parts") {
      const own = view.own.names.map((_, part) => css("--c" + part));
      return (i) => own[view.own.part[i]] || grey;
    }
    const own = Array.from({ length: 100 }, (_, step) => ramp(step / 99));
    return (i) => own[view.own.value[i]] || grey;
  };
  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const base = () => { const s = size(); return Math.min(s.width, s.height) * 0.94 / SIDE; };
  const at = (i) => {
    const s = size(), unit = base() * scale;
    return [s.width / 2 + (map.x[i] - SIDE / 2 - left) * unit, s.height / 2 - (map.y[i] - SIDE / 2 - top) * unit];
  };
  const shown = (i) => !only.checked || map.state[i] === 1;

  function draw() {
    frame = 0;
    const { width, height } = size(), ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d"), paint = palette(), byState = views[colour.value].kind === "state";
    pen.scale(ratio, ratio);
    const grow = Math.min(3, 1 + Math.log2(scale) / 3), few = Math.max(1, Math.min(2, 3000 / count));
    const many = map.picked_points > 1500 && scale < 3;
    for (const i of order) {
      if (!shown(i)) continue;
      const [x, y] = at(i);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      const picked = map.state[i] === 1, radius = (picked ? (many ? 1.5 : 2.1) : 1.4) * grow * few;
      pen.globalAlpha = picked ? (many ? 0.75 : 0.95) : byState ? 0.55 : 0.6;
      pen.fillStyle = paint(i);
      pen.beginPath();
      pen.arc(x, y, radius, 0, 6.2832);
      pen.fill();
      if (picked && !byState && scale > 1.5) {
        pen.strokeStyle = css("--ink");
        pen.lineWidth = 1;
        pen.stroke();
      }
    }
    if (asked >= 0) {
      const [x, y] = at(asked);
      pen.globalAlpha = 1;
      pen.strokeStyle = css("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, 7, 0, 6.2832);
      pen.stroke();
    }
  }
  const redraw = () => { if (!frame) frame = requestAnimationFrame(draw); };

  function explain() {
    const view = views[colour.value];
    const key = (fill, name) => {
      const dot = make("i");
      dot.style.background = fill;
      return make("span", { className: "key" }, [dot, name]);
    };
    if (view.kind === "state") {
      const names = ["not chosen", "chosen", "removed by a filter"], fills = ["--whole", "--picked", "--gone"];
      const seen = new Set(map.state);
      legend.replaceChildren(...names.map((name, s) => [s, name]).filter(([s]) => seen.has(s)).map(([s, name]) => key(css(fills[s]), name)));
    } else if (view.kind === "parts") {
      const keys = view.own.names.map((name, part) => key(css("--c" + part), name));
      if (view.own.part.some((part) => part >= view.own.names.length)) keys.push(key(css("--cx"), "others"));
      legend.replaceChildren(...keys);
    } else {
      const bar = make("i", { className: "ramp" });
      bar.style.cssText = "background:linear-gradient(90deg," + [0, .25, .5, .75, 1].map(ramp).join() + ");width:9rem";
      legend.replaceChildren(make("span", { className: "key" }, [number(view.own.range[0]), bar, number(view.own.range[1])]));
    }
    redraw();
  }

  function nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (const i of order) {
      if (!shown(i)) continue;
      const [px, py] = at(i), d = (px - x) ** 2 + (py - y) ** 2;
      if (d <= least) { least = d; best = i; }
    }
    return best;
  }
  function ask(i) {
    if (i < 0 || i === asked) return;
    asked = i;
    const facts = ["row " + map.row[i], ["not chosen", "chosen", "removed by a filter"][map.state[i]]];
    for (const own of map.parts) facts.push(own.names[own.part[i]] || "another " + own.by);
    about.replaceChildren(make("span", { className: "soft", textContent: facts.join(" · ") }), make("div", { textContent: map.text[i] }));
    redraw();
  }
  function zoom(factor, x, y) {
    const s = size(), before = base() * scale;
    scale = Math.max(1, Math.min(60, scale * factor));
    const after = base() * scale, dx = x - s.width / 2, dy = y - s.height / 2;
    left += dx / before - dx / after;
    top -= dy / before - dy / after;
    clampView();
  }
  function clampView() {
    const most = SIDE / 2;
    left = Math.max(-most, Math.min(most, left));
    top = Math.max(-most, Math.min(most, top));
    if (scale === 1) left = top = 0;
    canvas.style.touchAction = scale === 1 ? "pan-y" : "none";
    redraw();
  }
  const middle = (factor) => zoom(factor, size().width / 2, size().height / 2);
  const reset = () => { scale = 1; clampView(); };

  const held = new Map();
  const place = (e) => [e.offsetX, e.offsetY];
  canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, place(e)); ask(nearest(...place(e), 14)); });
  canvas.addEventListener("pointermove", (e) => {
    const now = place(e), was = held.get(e.pointerId);
    if (!was) return ask(nearest(...now, 10));
    const others = [...held.entries()].filter(([id]) => id !== e.pointerId).map((own) => own[1]);
    if (others.length) {
      const span = (p) => Math.hypot(p[0] - others[0][0], p[1] - others[0][1]) || 1;
      zoom(span(now) / span(was), (now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2);
    } else {
      const unit = base() * scale;
      left -= (now[0] - was[0]) / unit;
      top += (now[1] - was[1]) / unit;
      clampView();
    }
    held.set(e.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (e) => held.delete(e.pointerId));
  canvas.addEventListener("wheel", (e) => { if (e.ctrlKey || document.activeElement === canvas) { e.preventDefault(); zoom(2 ** (-e.deltaY / 300), ...place(e)); } }, { passive: false });
  canvas.addEventListener("dblclick", (e) => zoom(2, ...place(e)));
  canvas.addEventListener("keydown", (e) => {
    const step = SIDE / 10 / scale;
    const keys = {
      ArrowLeft: () => { left -= step; clampView(); }, ArrowRight: () => { left += step; clampView(); },
      ArrowUp: () => { top += step; clampView(); }, ArrowDown: () => { top -= step; clampView(); },
      "+": () => middle(1.5), "=": () => middle(1.5), "-": () => middle(1 / 1.5), 0: reset,
      Enter: () => ask(nearest(size().width / 2, size().height / 2, 1e9)),
    };
    if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  });
  colour.addEventListener("change", explain);
  only.addEventListener("change", redraw);
  new ResizeObserver(redraw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", explain);
  const button = (textContent, label, act) => { const b = make("button", { textContent, type: "button", onclick: act }); b.setAttribute("aria-label", label); return b; };
  const bench = make("div", { className: "bench" }, [
    make("label", { className: "small" }, ["Colour by ", colour]),
    make("label", { className: "small" }, [only, " chosen rows only"]),
    make("span", {}, [button("+", "zoom in", () => middle(1.5)), " ", button("−", "zoom out", () => middle(1 / 1.5)), " ", button("All", "show all", reset)]),
  ]);
  requestAnimationFrame(explain);
  return [bench, canvas, legend, about];
}
