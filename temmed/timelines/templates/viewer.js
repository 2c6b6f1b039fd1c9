"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const state = { sequence: 0, point: 0, unit: null, timer: null };

  /** Make an element; text is set as text, never as markup. */
  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "line", "circle", "rect", "path", "text", "polyline", "title", "g"].includes(tag);
    const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }
  const fill = (id, ...children) => $(id).replaceChildren(...children.filter(Boolean));
  const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/\.?0+$/, ""));
  const bound = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  const colour = (index) => `var(--c${index % 8})`;
  const current = () => data.sequences[state.sequence];
  const position = () => current().kept[state.point];
  const timeOf = (sequence, at) => sequence.times[sequence.positions.indexOf(at)];
  const words = (name) => name.replaceAll("_", " ");
  const unitOf = (measurement) => measurement.unit || "";
  const withUnit = (value, unit) => `${number(value)}${unit && unit !== "1" ? ` ${unit}` : ""}`;
  const MILLISECONDS = { millisecond: 1, second: 1000 };
  const isCine = (sequence) => sequence.unit in MILLISECONDS || sequence.unit === "frame";
  const moment = (sequence, at) => `${isCine(sequence) ? "Frame" : "Time point"} ${at}`;

  /** [unit, quantities] of a sequence; the one with most measurements first, stated errors last. */
  function quantitiesByUnit(sequence) {
    const found = new Map();
    for (const m of sequence.findings.flatMap((finding) => finding.measurements)) {
      const entry = found.get(unitOf(m)) || { names: new Set(), count: 0 };
      entry.names.add(m.quantity);
      entry.count += m.quantity === "log_diameter_sd" ? 0 : 1;
      found.set(unitOf(m), entry);
    }
    return [...found].sort((a, b) => b[1].count - a[1].count).map(([unit, entry]) => [unit, [...entry.names].sort()]);
  }

  function elapsed(sequence, time) {
    if (sequence.unit === "ordinal" || sequence.unit === "frame") return `${sequence.unit} ${number(time)}`;
    const shown = sequence.unit === "millisecond" ? `${time.toFixed(0)} ms` : plural(Number(number(time)), sequence.unit);
    return sequence.unit === "day" && time > 60 ? `${shown} (${(time / 30.44).toFixed(1)} months)` : shown;
  }

  function listSequences() {
    const wanted = $("filter").value.trim().toLowerCase();
    fill("sequences", ...data.sequences.map((sequence, index) => {
      const words = `${sequence.id} ${sequence.patient.patient_id} ${sequence.modality}`.toLowerCase();
      if (wanted && !words.includes(wanted)) return null;
      const detail = `${sequence.modality} · ${plural(sequence.positions.length, "time point")} · ${sequence.questions.length} Q`;
      return make("li", {}, make("button", { type: "button", "aria-current": index === state.sequence, onclick: () => choose(index) },
        sequence.id, make("small", {}, detail)));
    }));
  }

  function choose(index) {
    stop();
    state.sequence = index;
    state.point = 0;
    const sequence = current();
    const units = quantitiesByUnit(sequence);
    if (!units.some(([unit]) => unit === state.unit)) state.unit = units.length ? units[0][0] : null;
    fill("quantity", ...units.map(([unit, names]) => {
      const option = make("option", { value: unit }, `${names.map(words).join(", ")}${unit && unit !== "1" ? ` (${unit})` : ""}`);
      option.selected = unit === state.unit;
      return option;
    }));
    $("quantity").hidden = units.length < 2;
    $("slider").max = sequence.kept.length - 1;
    listSequences();
    const here = document.querySelector('#sequences [aria-current="true"]');
    if (here) here.scrollIntoView({ block: "nearest" });
    drawHead();
    draw();
  }

  function drawHead() {
    const sequence = current();
    $("sequence").textContent = `${sequence.id} · ${sequence.modality}`;
    const facts = Object.entries(sequence.patient).map(([key, value]) => (key === "patient_id" ? `patient ${value}` : `${key.replaceAll("_", " ")} ${value}`));
    if (sequence.scanner) facts.push(`scanner ${sequence.scanner}`);
    if (sequence.dims === 3) facts.push("one slice of each volume shown");
    if (sequence.kept.length < sequence.positions.length) facts.push(`${sequence.kept.length} of ${sequence.positions.length} time points shown`);
    $("patient").textContent = facts.join(" · ");
  }

  function go(point) {
    state.point = Math.max(0, Math.min(current().kept.length - 1, point));
    draw();
  }

  function goTo(at) {
    const kept = current().kept;
    go(kept.reduce((best, value, index) => (Math.abs(value - at) < Math.abs(kept[best] - at) ? index : best), 0));
  }

  function draw() {
    const sequence = current();
    $("slider").value = state.point;
    $("now").textContent = moment(sequence, position());
    const time = timeOf(sequence, position());
    const before = state.point ? timeOf(sequence, sequence.kept[state.point - 1]) : null;
    const gap = before === null || !["day", "week"].includes(sequence.unit) ? "" : ` · +${plural(Number(number(time - before)), sequence.unit)}`;
    $("elapsed").textContent = `${elapsed(sequence, time)}${gap}`;
    drawPictures();
    drawChart();
    drawFindings();
    drawReports();
    drawQuestions();
  }

  function drawPictures() {
    const sequence = current();
    const pictures = sequence.pictures[position()] || {};
    const [width, height] = sequence.size;
    const channels = sequence.channels.length ? sequence.channels : [""];
    const columns = Math.min(3, channels.length);
    const room = `width: calc(${width / height} * clamp(200px, 31vh, 330px)); max-width: calc((100% - ${12 * (columns - 1)}px) / ${columns})`;
    fill("pictures", ...channels.map((channel) => {
      const frame = make("div", { class: "frame", style: `aspect-ratio: ${width} / ${height}` });
      if (pictures[channel]) {
        frame.append(make("img", { src: pictures[channel], alt: `${channel}, ${moment(sequence, position())}`, style: "width:100%" }));
        const boxes = sequence.boxes.filter((box) => box.position === position() && (channel === box.channel || channel.startsWith(`${box.channel}.`)));
        frame.append(make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, ...boxes.map((box) => {
          const index = sequence.findings.findIndex((finding) => finding.finding_id === box.finding_id);
          return make("rect", { x: box.x1, y: box.y1, width: box.x2 - box.x1, height: box.y2 - box.y1, fill: "none",
            stroke: colour(index), "stroke-width": Math.max(width, height) / 220 });
        })));
      } else frame.append(make("div", { class: "none" }, "no image at this time point"));
      return make("figure", { style: room }, frame, make("figcaption", {}, channel.toUpperCase().replaceAll(".", " · ")));
    }));
  }

  /** Findings over time, visits, events and treatments on one time axis. */
  function drawChart() {
    const sequence = current();
    const width = Math.max(480, $("chart").clientWidth);
    const left = width > 760 ? 236 : 150, right = 18, rowHeight = 19;
    const last = Math.max(...sequence.times, 1e-9);
    const x = (time) => left + (width - left - right) * (Math.max(0, Math.min(last, time)) / last);
    const parts = [];
    let y = 8;
    const name = (text, at, extra = {}) => {
      const room = Math.floor((left - 12) / 5.6);
      const short = text.length > room ? `${text.slice(0, room - 1)}…` : text;
      parts.push(make("text", { x: 0, y: at, class: "row-name", ...extra }, short, make("title", {}, text)));
    };

    const lines = sequence.findings.flatMap((finding, index) => {
      const here = finding.measurements.filter((m) => unitOf(m) === state.unit).sort((a, b) => a.position - b.position);
      return [...new Set(here.map((m) => m.quantity))].map((quantity) => ({ finding, index, quantity, points: here.filter((m) => m.quantity === quantity) }));
    });
    if (lines.length) {
      const height = 96;
      const values = lines.flatMap((line) => line.points.map((point) => point.value));
      const low = Math.min(0, ...values), high = Math.max(...values) || 1;
      const up = (value) => y + height - (height - 8) * ((value - low) / (high - low || 1));
      for (const value of [low, (low + high) / 2, high]) {
        parts.push(make("line", { x1: left, x2: width - right, y1: up(value), y2: up(value), class: "tick" }));
        parts.push(make("text", { x: left - 8, y: up(value) + 4, "text-anchor": "end" }, withUnit(value, state.unit)));
      }
      name([...new Set(lines.map((line) => words(line.quantity)))].join(", "), y + height / 2 + 4);
      for (const { finding, index, quantity, points } of lines) {
        const places = points.map((point) => [x(timeOf(sequence, point.position)), up(point.value)]);
        parts.push(make("polyline", { points: places.map((place) => place.join(",")).join(" "), fill: "none", stroke: colour(index), "stroke-width": 2, "stroke-linejoin": "round" },
          make("title", {}, `${finding.label}${finding.location ? `, ${finding.location}` : ""}`)));
        places.forEach(([cx, cy], at) => parts.push(make("circle", { cx, cy, r: points[at].position === position() ? 4.5 : 2.5, fill: colour(index) },
          make("title", {}, `${finding.label}: ${words(quantity)} ${withUnit(points[at].value, state.unit)}`))));
      }
      y += height + 16;
    }

    name(isCine(sequence) ? "frames" : "time points", y + 8);
    const dense = sequence.kept.length > 24;
    sequence.kept.forEach((at, index) => {
      const time = timeOf(sequence, at);
      const blank = !sequence.pictures[at];
      const mark = make("circle", { cx: x(time), cy: y + 4, r: dense ? 2.5 : 5, tabindex: -1,
        class: `visit${blank ? " blank" : ""}${index === state.point ? " now" : ""}`, onclick: () => go(index) },
        make("title", {}, `${moment(sequence, at)}: ${elapsed(sequence, time)}${blank ? ", no image" : ""}`));
      parts.push(mark);
      if (!dense || index % 10 === 0) parts.push(make("text", { x: x(time), y: y + 22, "text-anchor": "middle" }, String(at)));
    });
    y += 32;

    const owner = (event) => sequence.findings.findIndex((finding) => finding.finding_id === event.finding_id);
    const happens = (event) => event.onset_upper !== null;
    for (const event of [...sequence.events].sort((a, b) => happens(b) - happens(a) || owner(a) - owner(b))) {
      const index = owner(event);
      const paint = index < 0 ? "var(--soft)" : colour(index);
      name(event.label, y + 12);
      if (!happens(event)) {
        parts.push(make("text", { x: left, y: y + 12, class: "never" }, "never"));
      } else {
        const [a, b] = [bound(event.onset_lower), bound(event.onset_upper)];
        const open = event.offset_lower === null;
        const [c, d] = open ? [Infinity, Infinity] : [bound(event.offset_lower), bound(event.offset_upper)];
        const span = (from, to, opacity) => to > from && parts.push(make("rect", { x: x(from), y: y + 3, width: Math.max(1.5, x(to) - x(from)), height: 11, rx: 3, fill: paint, opacity },
          make("title", {}, `${event.label}: starts in (${a}, ${b}], ends in (${c}, ${d}] ${sequence.unit}`)));
        // Faint where the event may or may not have begun or ended; nothing is known before the first time point.
        if (Number.isFinite(a)) span(a, b, 0.3);
        if (Number.isFinite(d)) span(c, d, 0.3);
        span(b, Math.max(c, b + last / 200), 0.85);
      }
      y += rowHeight;
    }
    for (const treatment of sequence.treatments) {
      name(treatment.name, y + 12);
      const from = treatment.start, to = treatment.stop === null ? last : treatment.stop;
      if (from <= last) parts.push(make("rect", { x: x(from), y: y + 6, width: Math.max(2, x(to) - x(from)), height: 5, rx: 2.5, fill: "var(--accent)", opacity: 0.7 }));
      y += rowHeight;
    }
    const here = x(timeOf(sequence, position()));
    parts.unshift(make("line", { x1: here, x2: here, y1: 2, y2: y, class: "here", opacity: 0.5 }));
    fill("chart", make("svg", { viewBox: `0 0 ${width} ${y + 2}`, height: y + 2, role: "img", "aria-label": "Findings, time points and events over time" }, ...parts));
  }

  function drawFindings() {
    const sequence = current();
    const rows = sequence.findings.map((finding, index) => ({ finding, index, here: finding.measurements.filter((m) => m.position === position()) })).filter((row) => row.here.length);
    if (!rows.length) {
      const text = sequence.findings.length ? "None measured at this time point." : "This folder names no findings.";
      return fill("findings", make("p", { class: "muted", style: "margin-bottom:14px" }, text));
    }
    const body = rows.flatMap(({ finding, index, here }) => {
      const ofUnit = here.filter((m) => unitOf(m) === state.unit);
      return (ofUnit.length ? ofUnit : here).map((shown) => {
        const earlier = finding.measurements.filter((m) => m.quantity === shown.quantity && m.position < position()).sort((a, b) => b.position - a.position)[0];
        const change = earlier && earlier.value ? 100 * (shown.value / earlier.value - 1) : null;
        return make("tr", {},
          make("td", {}, make("span", { class: "swatch", style: `background:${colour(index)}` }), finding.label,
            finding.location ? make("span", { class: "muted" }, ` · ${finding.location}`) : null),
          make("td", { class: "muted" }, words(shown.quantity)),
          make("td", { class: "number" }, withUnit(shown.value, unitOf(shown))),
          make("td", { class: "number" }, change === null ? "–" : `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(0)} %`));
      });
    });
    fill("findings", make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "finding"), make("th", {}, "measured"),
      make("th", { class: "number" }, "value"), make("th", { class: "number" }, "since last"))), make("tbody", {}, ...body)));
  }

  function drawReports() {
    const reports = current().reports.filter((report) => report.position === position() || report.position === null);
    fill("reports", ...(reports.length ? reports.map((report) => make("p", { class: "report" }, report.text,
      make("small", {}, report.position === null ? `${report.kind} of the patient` : report.kind))) : [make("p", { class: "muted" }, "None at this time point.")]));
    const statements = current().statements.filter((statement) => statement.position === position());
    fill("statements", statements.length ? make("h3", { style: "margin-top:14px" }, "Statements") : null, ...statements.map((statement) => {
      const verdict = statement.consistent ? "true" : `wrong ${statement.flip || ""}`.trim();
      return make("p", { class: "statement" }, $("answers").checked ? make("span", { class: `chip${statement.consistent ? " right" : ""}` }, verdict) : null, statement.text);
    }));
  }

  function drawQuestions() {
    const sequence = current();
    const every = $("every").checked, reveal = $("answers").checked;
    const questions = sequence.questions.filter((question) => every || question.asked_at === position()).sort((a, b) => a.asked_at - b.asked_at);
    if (!questions.length) {
      const elsewhere = [...new Set(sequence.questions.map((question) => question.asked_at))].sort((a, b) => a - b);
      const text = elsewhere.length ? "None asked at this time point. Asked at: " : "None about this sequence.";
      return fill("questions", make("p", { class: "muted chips" }, text, ...elsewhere.map(chip)));
    }
    fill("questions", ...questions.map((question) => {
      const choices = question.choices || [];
      const parts = choices.map((choice) => make("span", { class: `chip${reveal && choice === question.answer ? " right" : ""}` }, choice));
      if (reveal && question.answer !== null && !choices.includes(question.answer)) parts.push(make("span", { class: "chip right" }, question.answer));
      if (reveal && question.value !== null) parts.push(make("span", { class: "chip right" }, number(question.value)));
      const evidence = reveal && question.evidence && question.evidence.length
        ? [make("span", { class: "tag" }, "evidence"), ...question.evidence.map(chip)]
        : reveal && question.evidence_kind === "absence" ? [make("span", { class: "tag" }, "evidence: absence")] : [];
      const horizon = question.horizon_steps === null ? "" : ` · horizon ${question.horizon_steps}`;
      return make("div", { class: "question" }, make("div", { class: "prompt" }, question.prompt),
        make("div", { class: "chips" }, ...parts),
        make("div", { class: "chips", style: "margin-top:5px" }, ...(every ? [make("span", { class: "tag" }, "asked at"), chip(question.asked_at)] : []), ...evidence,
          make("span", { class: "tag" }, `${question.template.replaceAll("_", " ")}${horizon}`)));
    }));
  }

  function chip(at) {
    return make("button", { class: "chip", type: "button", title: `Go to time point ${at}`, onclick: () => goTo(at) }, String(at));
  }

  function stop() {
    clearTimeout(state.timer);
    state.timer = null;
    $("play").textContent = "▶";
  }

  function play() {
    if (state.timer) return stop();
    $("play").textContent = "❚❚";
    advance();
  }

  /** Loops run at the speed at which they were taken, as far as a page can; visits change slowly. */
  function advance() {
    const sequence = current();
    const next = (state.point + 1) % sequence.kept.length;
    const [here, there] = [state.point, next].map((point) => timeOf(sequence, sequence.kept[point]));
    const taken = MILLISECONDS[sequence.unit] * (there - here);
    const pause = taken > 0 ? Math.max(25, Math.min(1000, taken)) : isCine(sequence) ? 60 : 700;
    state.timer = setTimeout(() => { go(next); advance(); }, pause);
  }

  function theme(name) {
    document.documentElement.dataset.theme = name;
    $("theme").textContent = name === "dark" ? "Light" : "Dark";
  }

  $("name").textContent = data.name;
  $("about").textContent = `version ${data.version} · ${data.sequences.length} of ${plural(data.total, "sequence")} · ${data.licence}`;
  $("filter").addEventListener("input", listSequences);
  $("slider").addEventListener("input", (event) => { stop(); go(Number(event.target.value)); });
  $("previous").addEventListener("click", () => { stop(); go(state.point - 1); });
  $("next").addEventListener("click", () => { stop(); go(state.point + 1); });
  $("play").addEventListener("click", play);
  $("quantity").addEventListener("change", (event) => { state.unit = event.target.value; draw(); });
  $("every").addEventListener("change", drawQuestions);
  $("answers").addEventListener("change", () => { drawQuestions(); drawReports(); });
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  window.addEventListener("resize", drawChart);
  window.addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName) && event.target.id !== "slider" && event.target.type !== "checkbox") return;
    const moves = { ArrowLeft: () => go(state.point - 1), ArrowRight: () => go(state.point + 1), " ": play,
      ArrowUp: () => choose(Math.max(0, state.sequence - 1)), ArrowDown: () => choose(Math.min(data.sequences.length - 1, state.sequence + 1)) };
    if (!moves[event.key] || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    if (event.key !== " ") stop();
    moves[event.key]();
  });
  theme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  // #SEQUENCE/POSITION opens the page at a place.
  const [wanted, at] = decodeURIComponent(location.hash.slice(1)).split("/");
  choose(Math.max(0, data.sequences.findIndex((sequence) => sequence.id === wanted)));
  if (at) goTo(Number(at));
})();
