"use strict";
document.documentElement.classList.add("script");

// tables: a click on a head sorts, the next one turns the order round; cells say what they are worth in data-value
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows].at(-1).cells;
  [...heads].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "none" ? head.classList.contains("number") : head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = (row) => {
        const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const number = Number.parseFloat(text.replace("−", "-").replaceAll(",", ""));
        return Number.isNaN(number) ? text : number;
      };
      const missing = (one) => one === "–" || one === "";
      const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        const order = typeof a === typeof b && typeof a === "number" ? a - b : String(a).localeCompare(String(b));
        return descending ? -order : order;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
      table.classList.add("sorted");
    });
  });
}

// pictures: one condition at a time
for (const block of document.querySelectorAll("[data-conditions]")) {
  const names = JSON.parse(block.dataset.conditions);
  if (names.length < 2) continue;
  const bar = document.createElement("div");
  bar.className = "switch";
  const show = (chosen) => {
    for (const row of block.querySelectorAll("[data-condition]")) row.hidden = row.dataset.condition !== chosen;
    for (const button of bar.children) button.setAttribute("aria-pressed", button.textContent === chosen);
  };
  for (const name of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => show(name));
    bar.append(button);
  }
  block.prepend(bar);
  show(names[0]);
}

// atlas: by usage or by number, all classes or one
for (const section of document.querySelectorAll(".atlas-section")) {
  const list = section.querySelector(".atlas");
  const [order, filter] = section.querySelectorAll("select");
  const arrange = () => {
    const cards = [...list.children];
    cards.sort((a, b) => order.value === "number" ? a.dataset.number - b.dataset.number : b.dataset.usage - a.dataset.usage);
    list.append(...cards);
    for (const card of cards) card.hidden = filter.value !== "" && card.dataset.class !== filter.value;
  };
  order.addEventListener("change", arrange);
  filter.addEventListener("change", arrange);
}

// nearest regions: the map says which region lies under the pointer (id = red + 256 green)
const image = (address) => new Promise((resolve) => {
  const found = new Image();
  found.addEventListener("load", () => resolve(found));
  found.src = address;
});

class Lookup {
  constructor(root, data) {
    this.data = data;
    this.canvas = root.querySelector("canvas");
    this.list = root.querySelector(".nearest");
    this.told = root.querySelector(".chosen");
    this.sprite = `url("${data.sprite}")`;
    const choice = root.querySelector("select");
    choice.addEventListener("change", () => this.open(Number(choice.value)));
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.choose(
        Math.floor((event.clientX - box.left) / box.width * this.canvas.width),
        Math.floor((event.clientY - box.top) / box.height * this.canvas.height),
      );
    });
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.walk(...step);
    });
    this.ready = this.open(0);
  }

  async open(number) {
    this.one = this.data.pictures[number];
    const [picture, regions] = await Promise.all([image(this.one.picture), image(this.one.regions)]);
    const { width, height } = regions;
    Object.assign(this.canvas, { width, height });
    const hidden = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    hidden.drawImage(regions, 0, 0);
    const values = hidden.getImageData(0, 0, width, height).data;
    this.ids = Int32Array.from({ length: width * height }, (_, at) => values[4 * at] + 256 * values[4 * at + 1]);
    this.picture = picture;
    this.choose(width >> 1, height >> 1);
  }

  walk(right, down) {
    let [x, y] = this.place;
    const { width, height } = this.canvas;
    while (x + right >= 0 && x + right < width && y + down >= 0 && y + down < height) {
      x += right;
      y += down;
      if (this.ids[y * width + x] !== this.chosen) break;
    }
    this.choose(x, y);
  }

  choose(x, y) {
    this.place = [x, y];
    this.chosen = this.ids[y * this.canvas.width + x];
    this.draw();
    const near = this.one.nearest[this.chosen] ?? [], cosines = this.one.similarity[this.chosen] ?? [];
    this.told.textContent = `Region ${this.chosen} of ${this.one.key} and the ${near.length} most like it in other pictures:`;
    this.list.replaceChildren(...near.map((place, rank) => this.item(place, cosines[rank])));
  }

  item(place, cosine) {
    const [key, , label] = this.data.pool[place];
    const { columns, pool } = this.data;
    const rows = Math.ceil(pool.length / columns), row = Math.floor(place / columns), column = place % columns;
    const item = document.createElement("li"), crop = document.createElement("span");
    crop.className = "crop";
    crop.style.backgroundImage = this.sprite;
    crop.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    crop.style.backgroundPosition = `${columns > 1 ? 100 * column / (columns - 1) : 0}% ${rows > 1 ? 100 * row / (rows - 1) : 0}%`;
    crop.setAttribute("role", "img");
    crop.setAttribute("aria-label", `region of ${key}`);
    item.append(crop, `${label ? `${label}, ` : ""}${cosine.toFixed(2)}`);
    item.title = key;
    return item;
  }

  draw() {
    const { width, height } = this.canvas, context = this.canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    const own = (x, y) => x >= 0 && y >= 0 && x < width && y < height && this.ids[y * width + x] === this.chosen;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = 4 * (y * width + x);
        const inside = own(x, y), edge = own(x - 1, y) || own(x + 1, y) || own(x, y - 1) || own(x, y + 1);
        if (inside) continue;
        for (let channel = 0; channel < 3; channel++) {
          const value = pixels.data[at + channel];
          pixels.data[at + channel] = edge ? [255, 214, 10][channel] : 0.62 * value + 0.12 * 255;
        }
      }
    }
    context.putImageData(pixels, 0, 0);
  }
}

globalThis.lookups = [...document.querySelectorAll(".lookup-section")].map(
  (root) => new Lookup(root, JSON.parse(root.querySelector('script[type="application/json"]').textContent)),
);
