"use strict";
// The page of the playground: it shows what the server sends, and sends what the user chooses.

const RANGE = 3;
const CHOICES = {
  data: ["moons", "circles", "spirals", "blobs", "exclusive or", "plane", "hills", "own points"],
  activation: ["tanh", "relu", "sigmoid", "linear"],
  loss: ["logistic", "hinge", "squared"],
  optimizer: ["SGD", "momentum", "RMSprop", "Adam", "AdamW"],
  penalty: ["none", "L1", "L2"],
};
const FEATURES = ["x1", "x2", "x1^2", "x2^2", "x1 x2", "sin x1", "sin x2"];
const NUMBERS = ["noise", "samples", "share", "batch", "seed", "rate", "strength"];

const find = (id) => document.getElementById(id);
const form = find("settings");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let socket = null;
let settings = null; // those of the training on the page
let data = null; // its points
let frame = null;
let selected = null; // [layer, neuron] that is shown large; null for the output
let history = []; // [step, training loss, test loss]
let cross = [0, 0];
let started = false; // whether settings have come
let drawn = 0; // when the page was last drawn
let spoken = 0; // when the status was last read out

// -- the state in the URL

function settingsOfUrl() {
  const given = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    try { given[name] = JSON.parse(text); } catch { given[name] = text; }
  }
  return given;
}

function writeUrl() {
  const parameters = new URLSearchParams({ steps: frame.steps });
  for (const [name, value] of Object.entries(settings)) parameters.set(name, JSON.stringify(value));
  window.history.replaceState(null, "", "#" + parameters);
}

const isRegression = () => ["plane", "hills"].includes(settings.data);

// -- the form

function build() {
  for (const [name, choices] of Object.entries(CHOICES)) {
    form.elements[name].append(...choices.map((choice) => new Option(choice)));
  }
  for (const feature of FEATURES) {
    const label = document.createElement("label");
    label.className = "check";
    const box = document.createElement("input");
    box.type = "checkbox";
    box.name = "feature";
    box.value = feature;
    label.append(box, " " + feature.replace("^2", "²").replaceAll(/x([12])/g, (_, i) => "x" + "₁₂"[i - 1]));
    find("features").append(label);
  }
}

function fillForm() {
  for (const name of [...Object.keys(CHOICES), ...NUMBERS]) form.elements[name].value = settings[name];
  form.elements.layers.value = settings.layers.join(", ");
  for (const box of form.querySelectorAll("[name=feature]")) box.checked = settings.features.includes(box.value);
  form.elements.loss.disabled = isRegression();
}

function chosen() {
  const result = { ...settings };
  for (const name of Object.keys(CHOICES)) result[name] = form.elements[name].value;
  for (const name of NUMBERS) result[name] = Number(form.elements[name].value);
  result.layers = form.elements.layers.value.split(/[ ,]+/).filter(Boolean).map(Number);
  result.features = [...form.querySelectorAll("[name=feature]:checked")].map((box) => box.value);
  return result;
}

// -- messages

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function restart({ steps = 0, ...next }) {
  find("message").textContent = "";
  send({ do: "reset", settings: next, steps });
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/training`);
  socket.onopen = () => {
    send({ do: "speed", steps: Number(find("speed").value) });
    if (location.hash) restart(settingsOfUrl());
  };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = (event) => {
    find("message").textContent = (event.reason || "The server has ended this training") + ". Reload the page to begin again.";
  };
}

function receive(message) {
  if (message.type === "error") {
    find("message").textContent = message.text;
    if (settings) fillForm();
    return;
  }
  if (message.type === "code") {
    find("code").textContent = message.code;
    return;
  }
  if (message.type === "points") {
    settings = message.settings;
    find("message").textContent = message.points.length ? "" : "There are no points: click into the output to add some.";
    data = message;
    history = [];
    selected = null;
    fillForm();
    if (!find("code").hidden) send({ do: "code" });
    return;
  }
  frame = message;
  if (started && !frame.runs) writeUrl(); // the first, usual settings leave the address short
  started = true;
  if (frame.losses.length) {
    history.push([frame.steps, ...frame.losses]);
    if (history.length > 600) history = history.filter((_, i) => i % 2 === 0);
  }
  const now = Date.now();
  if (calm.matches && frame.runs && now - drawn < 1000) return; // few changes, where wished
  drawn = now;
  requestAnimationFrame(draw);
}

// -- drawing

function colour(value, strength = 0.85) { // orange for -1, white for 0, blue for 1
  const part = Math.min(1, Math.abs(value));
  const end = value < 0 ? [213, 94, 0] : [0, 114, 178];
  return end.map((c) => Math.round(250 + (c - 250) * part * strength));
}

function paint(canvas, text, side, hard, strength) {
  const bytes = atob(text);
  const context = canvas.getContext("2d");
  const image = new ImageData(side, side);
  for (let i = 0; i < bytes.length; i++) {
    const value = (bytes.charCodeAt(i) - 127) / 127;
    const [r, g, b] = colour(hard ? Math.sign(value) : value, strength);
    image.data.set([r, g, b, 255], 4 * i);
  }
  const small = paint.small ??= document.createElement("canvas");
  small.width = small.height = side;
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = !hard;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function draw() {
  if (!frame || !data) return;
  find("steps").textContent = frame.steps.toLocaleString("en");
  find("epochs").textContent = frame.epochs.toLocaleString("en");
  find("cost").textContent = frame.steps ? `${frame.microseconds.toPrecision(3)} µs` : "–";
  const play = find("play");
  play.textContent = frame.runs ? "Pause" : "Train";
  play.setAttribute("aria-pressed", frame.runs);
  const written = frame.losses.map((loss) => (loss === null ? "not finite" : loss.toFixed(4)));
  find("train-loss").textContent = written[0] ?? "–";
  find("test-loss").textContent = written[1] ?? "–";
  drawNetwork();
  drawOutput();
  drawLosses();
  const now = Date.now();
  if (now - spoken > 5000 || !frame.runs) {
    spoken = now;
    find("status").textContent = `Step ${frame.steps}, training loss ${written[0] ?? "none"}, test loss ${written[1] ?? "none"}`;
  }
}

function drawOutput() {
  const canvas = find("output");
  const context = canvas.getContext("2d");
  const [text, side] = selected ? [frame.neurons[selected[0]][selected[1]], 20] : [frame.output, 50];
  paint(canvas, text, side, find("hard").checked, 0.5); // paler than the points
  const train = new Set(data.train);
  const regression = isRegression();
  const scale = canvas.width / (2 * RANGE);
  data.points.forEach(([x, y], i) => {
    if (!train.has(i) && !find("show-test").checked) return;
    const target = data.targets[i];
    const [px, py] = [(x + RANGE) * scale, (RANGE - y) * scale];
    context.fillStyle = `rgb(${colour(regression ? target : Math.sign(target), 1)})`;
    context.strokeStyle = train.has(i) ? "#fff" : "#000";
    context.lineWidth = 1;
    context.beginPath();
    if (target > 0) context.rect(px - 3.5, py - 3.5, 7, 7);
    else context.arc(px, py, 4, 0, 7);
    context.fill();
    context.stroke();
  });
  if (document.activeElement === canvas) {
    const [px, py] = [(cross[0] + RANGE) * scale, (RANGE - cross[1]) * scale];
    context.strokeStyle = "#000";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(px - 9, py); context.lineTo(px + 9, py);
    context.moveTo(px, py - 9); context.lineTo(px, py + 9);
    context.stroke();
  }
  find("output-title").textContent = selected ? `Output of neuron ${selected[1] + 1}, ${nameOfLayer(selected[0])}` : "Output";
}

function drawLosses() {
  const canvas = find("losses");
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.body);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const finite = history.flatMap(([, ...losses]) => losses).filter((loss) => loss !== null);
  if (history.length < 2 || !finite.length) return;
  const most = Math.max(...finite), last = history.at(-1)[0] || 1;
  [[2, "--soft", [5, 4]], [1, "--text", []]].forEach(([column, name, dashes]) => {
    context.strokeStyle = style.getPropertyValue(name);
    context.lineWidth = 2;
    context.setLineDash(dashes);
    context.beginPath();
    for (const row of history) {
      if (row[column] == null) continue;
      context.lineTo((row[0] / last) * canvas.width, canvas.height - 4 - (row[column] / most) * (canvas.height - 10));
    }
    context.stroke();
  });
}

const nameOfLayer = (i) => (i === 0 ? "features" : i === frame.neurons.length - 1 ? "output" : `layer ${i}`);

function drawNetwork() {
  const network = find("network");
  const shape = frame.neurons.map((neurons) => neurons.length).join() + settings.features;
  if (network.dataset.shape !== shape) {
    network.dataset.shape = shape;
    network.querySelectorAll(".layer").forEach((layer) => layer.remove());
    frame.neurons.forEach((neurons, i) => {
      const layer = document.createElement("div");
      layer.className = "layer";
      const title = document.createElement("span");
      title.textContent = nameOfLayer(i);
      layer.append(title);
      neurons.forEach((_, j) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "neuron";
        button.dataset.at = `${i},${j}`;
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 38;
        const name = i === 0 ? `feature ${settings.features[j]}` : `neuron ${j + 1} of ${nameOfLayer(i)}`;
        button.setAttribute("aria-label", name);
        button.title = name;
        button.append(canvas);
        button.onclick = () => {
          const same = selected && selected[0] === i && selected[1] === j;
          selected = same ? null : [i, j];
          draw();
        };
        layer.append(button);
      });
      network.append(layer);
    });
  }
  for (const button of network.querySelectorAll(".neuron")) {
    const [i, j] = button.dataset.at.split(",").map(Number);
    paint(button.firstChild, frame.neurons[i][j], 20, false, 0.85);
    button.setAttribute("aria-pressed", Boolean(selected && selected[0] === i && selected[1] === j));
  }
  drawLinks(network);
  const rows = frame.layers.map((layer, i) => {
    const size = (rows) => Math.sqrt(rows.flat().reduce((sum, x) => sum + x * x, 0) / rows.flat().length).toPrecision(3);
    return [nameOfLayer(i + 1), layer.weight.length, size(layer.weight), size(layer.weight_grad)];
  });
  find("layers").replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (!i) cell.scope = "row";
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  }));
}

function drawLinks(network) {
  const kind = find("lines").value;
  const box = network.getBoundingClientRect();
  const at = (i, j, side) => {
    const place = network.querySelector(`[data-at="${i},${j}"]`).getBoundingClientRect();
    return [place[side] - box.left, place.top + place.height / 2 - box.top];
  };
  const lines = [];
  frame.layers.forEach((layer, i) => {
    const table = layer[kind];
    const largest = Math.max(...table.flat().map(Math.abs)) || 1;
    table.forEach((row, j) => row.forEach((value, k) => {
      const [x1, y1] = at(i, k, "right");
      const [x2, y2] = at(i + 1, j, "left");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      const bend = (x2 - x1) / 2;
      line.setAttribute("d", `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`);
      line.setAttribute("fill", "none");
      line.setAttribute("stroke", value < 0 ? "var(--orange)" : "var(--blue)");
      line.setAttribute("stroke-width", (0.3 + 5 * Math.abs(value) / largest).toFixed(2));
      line.setAttribute("stroke-opacity", "0.75");
      if (value < 0) line.setAttribute("stroke-dasharray", "6 3");
      lines.push(line);
    }));
  });
  find("links").replaceChildren(...lines);
}

// -- what the user does

function addPoint(x, y) {
  if (isRegression()) {
    find("message").textContent = `The data set "${settings.data}" has numbers, not classes: choose another one to add points.`;
    return;
  }
  const points = [...settings.points, [Number(x.toFixed(2)), Number(y.toFixed(2)), Number(find("class").value)]];
  restart({ ...settings, points });
}

function listen() {
  find("play").onclick = () => send({ do: frame && frame.runs ? "pause" : "play" });
  find("step").onclick = () => send({ do: "step" });
  find("reset").onclick = () => restart(settings);
  find("speed").onchange = (event) => send({ do: "speed", steps: Number(event.target.value) });
  form.onchange = () => restart(chosen());
  form.onsubmit = (event) => event.preventDefault();
  find("clear").onclick = () => restart({ ...settings, points: [] });
  for (const id of ["hard", "show-test", "lines"]) find(id).onchange = draw;
  window.onresize = draw;
  window.onhashchange = () => restart(settingsOfUrl());
  const canvas = find("output");
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    const part = (value, size) => Math.min(1, Math.max(0, value / size)) * 2 * RANGE - RANGE;
    addPoint(part(event.clientX - box.left, box.width), -part(event.clientY - box.top, box.height));
  };
  canvas.onkeydown = (event) => {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (event.key === "Enter" || event.key === " ") addPoint(...cross);
    else if (moves[event.key]) cross = cross.map((c, i) => Math.min(RANGE, Math.max(-RANGE, c + moves[event.key][i])));
    else return;
    event.preventDefault();
    draw();
  };
  canvas.onfocus = canvas.onblur = draw;
  find("show-code").onclick = (event) => {
    const code = find("code");
    code.hidden = !code.hidden;
    find("copy").hidden = code.hidden;
    event.target.setAttribute("aria-expanded", !code.hidden);
    event.target.textContent = code.hidden ? "Show me the code" : "Hide the code";
    if (!code.hidden) send({ do: "code" });
  };
  find("copy").onclick = () => navigator.clipboard.writeText(find("code").textContent);
}

build();
listen();
connect();
