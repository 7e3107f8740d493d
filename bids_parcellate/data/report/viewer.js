// The interactive viewer of a report. It enhances a page that is complete without it: the slices below stay.
// Its data are in the page, as JSON; whatever text they hold is set as text, never as markup.
(() => {
  "use strict";

  const element = (id) => document.getElementById(`viewer-${id}`);
  const root = document.getElementById("viewer");
  const CROSSHAIR = [1, 1, 1, 0.9];
  const LABELS = 1002; // what NIfTI calls an image of labels
  const OUTSIDE = [0, 0, 0, 0];
  const MISSING = [70, 70, 70];
  const SELECTED = [255, 255, 255];
  // From low to high: of correlations, which have a middle, and of figures, which have none.
  const DIVERGING = [[49, 120, 220], [38, 38, 42], [255, 150, 30]];
  const SEQUENTIAL = [[58, 12, 110], [33, 144, 141], [253, 231, 37]];
  const ARROWS = {
    ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };

  const state = { viewer: null, parcellation: null, selected: 0, volume: null };

  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

  async function unzip(base64, Type) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Type(await new Response(stream).arrayBuffer());
  }

  async function loadLibrary() {
    const text = new TextDecoder().decode(await unzip(element("library").textContent.trim(), Uint8Array));
    const script = document.createElement("script");
    script.textContent = text; // the page's policy allows exactly this text, by its hash
    document.head.append(script);
    return window.niivue;
  }

  // ------------------------------------------------------------------------------------------------ colours

  function between(stops, share) {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((value, channel) => Math.round(value + (place - low) * (stops[low + 1][channel] - value)));
  }

  const fromHex = (color) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));

  function correlations(parcellation, parcel) {
    const number = parcellation.names.length;
    return Array.from(parcellation.correlation.subarray(parcel * number, (parcel + 1) * number), (value) =>
      value === -128 ? null : value / 127);
  }

  function limits(values) {
    const known = values.filter((value) => value !== null);
    return [Math.min(...known), Math.max(...known)];
  }

  // What the parcels are coloured by: their own colours, correlations with the selected one, or a figure.
  function scheme() {
    const { parcellation, selected } = state;
    const choice = element("colour").value;
    if (choice === "parcels") {
      return { colors: parcellation.colors.map(fromHex) };
    }
    if (choice === "correlation") {
      const values = correlations(parcellation, selected);
      const others = values.filter((value, parcel) => value !== null && parcel !== selected).map(Math.abs);
      const limit = Math.max(others.sort((first, second) => first - second)[Math.floor(0.98 * others.length)] || 0, 0.1);
      const colors = values.map((value, parcel) =>
        parcel === selected ? SELECTED : value === null ? MISSING : between(DIVERGING, (value / limit + 1) / 2));
      return { colors, stops: DIVERGING, low: -limit, high: limit };
    }
    const { values } = parcellation.figures[Number(choice)];
    const [low, high] = limits(values);
    const colors = values.map((value) =>
      value === null ? MISSING : between(SEQUENTIAL, (value - low) / (high - low || 1)));
    return { colors, stops: SEQUENTIAL, low, high };
  }

  function paint() {
    const { colors, stops, low, high } = scheme();
    const all = [OUTSIDE, ...colors.map((color) => [...color, 255])];
    const channel = (number) => all.map((color) => color[number]);
    state.volume.setColormapLabel({
      R: channel(0), G: channel(1), B: channel(2), A: channel(3), I: all.map((_, label) => label),
      labels: ["", ...state.parcellation.names],
    });
    state.viewer.setAtlasOutline(stops ? 0 : 1); // which draws the volumes anew
    const legend = element("legend");
    legend.hidden = !stops;
    if (stops) {
      element("bar").style.background = `linear-gradient(to right, ${stops.map((stop) => `rgb(${stop})`)})`;
      element("low").textContent = write(low);
      element("high").textContent = write(high);
    }
  }

  // ------------------------------------------------------------------------------------------------ the selected parcel

  function write(value) {
    if (value === null) return "n/a";
    if (typeof value === "string") return value;
    const digits = Number.isInteger(value) ? 0 : Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
      .replace("-", "\u2212");
  }

  function make(name, text, attributes = {}) {
    const made = document.createElement(name);
    if (text !== null) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function showFacts(parcellation, parcel) {
    const pairs = parcellation.facts.concat(parcellation.figures).map(({ name, unit, values }) => {
      const pair = make("div", null);
      const value = write(values[parcel]);
      pair.append(make("dt", name), make("dd", unit && values[parcel] !== null ? `${value} ${unit}` : value));
      return pair;
    });
    element("facts").replaceChildren(...pairs);
  }

  function showSeries(parcellation, parcel) {
    const part = element("signal");
    part.hidden = !parcellation.series;
    if (part.hidden) return;
    const number = parcellation.names.length;
    const length = parcellation.series.length / number;
    const points = [];
    for (let volume = 0; volume < length; volume += 1) {
      const value = parcellation.series[volume * number + parcel];
      points.push(`${((volume / Math.max(length - 1, 1)) * 300).toFixed(1)},${(58 - (value / 255) * 56).toFixed(1)}`);
    }
    element("series").setAttribute("points", points.join(" "));
    element("signal-title").textContent = `Signal in ${parcellation.series_of}`;
  }

  function showPartners(parcellation, parcel) {
    const part = element("partners");
    part.hidden = !parcellation.correlation;
    if (part.hidden) return;
    element("partners-title").textContent = `Most correlated (mean of ${parcellation.n_runs} run${
      parcellation.n_runs === 1 ? "" : "s"})`;
    const values = correlations(parcellation, parcel);
    const order = values.map((value, other) => [value, other])
      .filter(([value, other]) => value !== null && other !== parcel)
      .sort(([first], [second]) => second - first).slice(0, 5);
    element("list").replaceChildren(...order.map(([value, other]) => {
      const item = make("li", null);
      const button = make("button", parcellation.names[other], { type: "button" });
      button.addEventListener("click", () => goTo(other));
      item.append(button, ` ${value.toFixed(2).replace("-", "\u2212")}`);
      return item;
    }));
  }

  function select(parcel) {
    const { parcellation } = state;
    state.selected = parcel;
    element("parcel").value = String(parcel);
    element("name").textContent = parcellation.names[parcel];
    element("swatch").style.backgroundColor = parcellation.colors[parcel];
    showFacts(parcellation, parcel);
    showSeries(parcellation, parcel);
    showPartners(parcellation, parcel);
    if (element("colour").value === "correlation") paint();
    root.dataset.selected = parcellation.names[parcel];
  }

  function goTo(parcel) {
    const { viewer, parcellation } = state;
    viewer.scene.crosshairPos = viewer.mm2frac(parcellation.places[parcel]);
    viewer.drawScene();
    viewer.createOnLocationChange();
    select(parcel);
  }

  function follow(location) {
    if (!state.volume) return;
    const label = Math.round(state.volume.getValue(...location.vox.slice(0, 3)));
    element("place").textContent = Array.from(location.mm.slice(0, 3), (value) => write(Math.round(value))).join(", ");
    if (label > 0 && label - 1 !== state.selected) select(label - 1);
  }

  // ------------------------------------------------------------------------------------------------ parcellations

  async function prepare(parcellation) {
    if (typeof parcellation.correlation === "string") {
      parcellation.correlation = await unzip(parcellation.correlation, Int8Array);
    }
    if (typeof parcellation.series === "string") {
      parcellation.series = await unzip(parcellation.series, Uint8Array);
    }
  }

  function option(value, text) {
    return make("option", text, { value: String(value) });
  }

  async function show(data, number) {
    const parcellation = data.parcellations[number];
    root.dataset.state = "loading";
    await prepare(parcellation);
    const { viewer } = state;
    if (state.volume) viewer.removeVolume(state.volume);
    state.parcellation = parcellation;
    state.volume = await state.library.NVImage.loadFromBase64({
      base64: parcellation.image, name: `parcels-${number}.nii.gz`, opacity: Number(element("opacity").value) / 100,
    });
    state.volume.hdr.intent_code = LABELS;
    viewer.addVolume(state.volume);
    element("colour").replaceChildren(
      option("parcels", "parcel"),
      ...(parcellation.correlation ? [option("correlation", "correlation with this parcel")] : []),
      ...parcellation.figures.map(({ name }, index) => option(index, name)),
    );
    element("parcel").replaceChildren(...parcellation.names.map((name, parcel) => option(parcel, name)));
    paint();
    goTo(parcellation.start);
    root.dataset.state = "ready";
  }

  function listen(data) {
    const canvas = element("canvas");
    element("parcellation").addEventListener("change", (event) => show(data, Number(event.target.value)));
    element("parcel").addEventListener("change", (event) => goTo(Number(event.target.value)));
    element("colour").addEventListener("change", paint);
    element("opacity").addEventListener("input", (event) => {
      state.viewer.setOpacity(state.viewer.volumes.indexOf(state.volume), Number(event.target.value) / 100);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (!step) return;
      event.preventDefault();
      state.viewer.moveCrosshairInVox(...step);
      state.viewer.createOnLocationChange();
    });
  }

  async function start() {
    const data = JSON.parse(element("data").textContent);
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("this browser offers no WebGL 2");
    }
    state.library = await loadLibrary();
    root.hidden = false;
    const viewer = new state.library.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: CROSSHAIR, crosshairWidth: 0.8, crosshairWidthUnit: "mm", crosshairGap: 6, show3Dcrosshair: true,
      isColorbar: false, isNearestInterpolation: true, dragAndDropEnabled: false, loadingText: "",
      multiplanarShowRender: 1, multiplanarLayout: 2, logLevel: "silent", fontMinPx: 11, scrollRequiresFocus: true,
      isAntiAlias: true,
    });
    viewer.onLocationChange = follow;
    state.viewer = viewer;
    await viewer.attachToCanvas(element("canvas"));
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    if (data.background) {
      viewer.addVolume(await state.library.NVImage.loadFromBase64({ base64: data.background, name: "mean.nii.gz" }));
    }
    element("parcellation").replaceChildren(
      ...data.parcellations.map(({ title }, number) => option(number, title)));
    listen(data);
    await show(data, 0);
  }

  start().catch((error) => {
    root.hidden = true;
    root.dataset.state = "unavailable";
    const note = element("unavailable");
    note.hidden = false;
    note.textContent = `The interactive viewer cannot be shown: ${error.message}. The slices below show the same parcels.`;
  });
})();
